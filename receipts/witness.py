"""Be a witness: cosign another's checkpoint if it goes on from the one that was cosigned before, and only then.

1. read the request                                  RequestMalformed
2. know the log                                      LogUnknown
3. one of its keys signed the checkpoint             NotSignedByTheLog
   -- the log's row is locked from here on --
4. no other root was cosigned at that size           a fork: RootDiffers, and the evidence is kept
5. the request knows what was cosigned last          SizeDiffers
6. the proof leads from there to the checkpoint      ProofDoesNotHold, and the evidence is kept
7. the checkpoint is stored, and committed
8. the cosignature is made and leaves

A crash before 7 is committed leaves nothing; one after it leaves a checkpoint that whoever asks again
with is told the size of, and cosigned once more. That one size has one root is held by the database too.

Source: C2SP tlog-witness (https://c2sp.org/tlog-witness).
"""

import datetime as dt
from typing import Final

from django.conf import settings
from django.db import transaction

from receipts.checkpoint import COSIGNATURE_V1, ED25519, NoteBroken, Vkey, check_note, cosign, make_vkey, parse_vkey
from receipts.keys import ed25519_signer
from receipts.log import log_head
from receipts.merkle import EMPTY_ROOT, ProofBroken, check_consistency
from receipts.models import Misbehaviour, WitnessedCheckpoint, WitnessedLog
from receipts.record import database_now
from receipts.witness_request import AddCheckpoint, read_request

MISBEHAVIOURS_KEPT: Final = 100  # of one log: the first ones prove it, and a log may sign without end


class WitnessRefuses(Exception):
    """No cosignature for this. Try again: as it stands, no."""


class LogUnknown(WitnessRefuses):
    """This house does not watch that log."""


class NotSignedByTheLog(WitnessRefuses):
    """No key that this house knows of that log signed the checkpoint."""


class SizeDiffers(WitnessRefuses):
    """The request goes on from another size than the one cosigned last, which is `size`."""

    def __init__(self, size: int, said: str) -> None:
        super().__init__(said)
        self.size = size


class RootDiffers(SizeDiffers):
    """The log signed another root for a size that was cosigned already: it shows two histories."""


class ProofDoesNotHold(WitnessRefuses):
    """The proof does not lead from the cosigned checkpoint to this one."""


def add_checkpoint(body: bytes) -> str:
    """Answer a request of a log: the signature line to put under its checkpoint.

    Raises: receipts.witness_request.RequestMalformed, WitnessRefuses.
    """
    request = read_request(body)
    origin = request.checkpoint.origin
    # What strangers send ends here, before a row is locked for them.
    log = WitnessedLog.objects.filter(origin=origin, watched=True).first()
    if log is None:
        raise LogUnknown(f"this house does not watch the log {origin[:100]!r}")
    _require_signed(request, log)
    with transaction.atomic(durable=True):
        now = database_now()
        refusal = _advance(WitnessedLog.objects.select_for_update().get(pk=log.pk), request, now)
    # Point of no return: the checkpoint is committed. A crash right here costs the log one more request.
    if refusal is not None:
        raise refusal
    signer = ed25519_signer("witness", settings.KEYS_DIR)
    return str(cosign(request.note.text, witness_name(), signer, signer.public, time_s=int(now.timestamp())))


def witness_name() -> str:
    """Name this house as a witness: its own log's origin, so that the name is as lasting."""
    return f"{log_head().origin}/witness"


def witness_vkey() -> Vkey:
    """Give the key that others check this house's cosignatures with. Raises: KeyUnusable, LogNotFounded."""
    return make_vkey(witness_name(), ed25519_signer("witness", settings.KEYS_DIR).public, COSIGNATURE_V1)


# --- whom we watch -------------------------------------------------------------------------------


def watch_log(*, vkey: str, url: str = "") -> WitnessedLog:
    """Watch a log from now on; a second key for the same origin is added to the first.

    A log that was watched before goes on from where it was. Raises: NoteBroken.
    """
    key = parse_vkey(vkey)
    if key.kind != ED25519:
        raise NoteBroken("a log signs with a key of type 0x01; this is a witness's")
    with transaction.atomic():
        log, _ = WitnessedLog.objects.select_for_update().get_or_create(
            origin=key.name, defaults={"vkeys": [], "url": url, "root": EMPTY_ROOT}
        )
        log.vkeys = [*log.vkeys, *([] if str(key) in log.vkeys else [str(key)])]
        log.url, log.watched = url or log.url, True
        log.save(update_fields=["vkeys", "url", "watched"])
    return log


def stop_watching(origin: str) -> bool:
    """Cosign nothing of this log any more, and keep what was seen of it. Tells whether it was watched."""
    return bool(WitnessedLog.objects.filter(origin=origin, watched=True).update(watched=False))


# --- one step further ----------------------------------------------------------------------------


def _require_signed(request: AddCheckpoint, log: WitnessedLog) -> None:
    reason = ""
    for vkey in log.vkeys:
        try:
            check_note(request.note, parse_vkey(vkey))
            return
        except NoteBroken as error:
            reason = str(error)
    raise NotSignedByTheLog(reason or "no key of this log is known")


def _advance(log: WitnessedLog, request: AddCheckpoint, now: dt.datetime) -> WitnessRefuses | None:
    """Move the locked row to the checkpoint, or say why not. What proves misbehaviour is kept, in this transaction."""
    new = request.checkpoint
    before = WitnessedCheckpoint.objects.filter(log=log, size=new.size).first()
    if before is not None and bytes(before.root) != new.root:
        said = f"{bytes(before.root).hex()} was cosigned for {new.size} leaves, not {new.root.hex()}"
        _keep(Misbehaviour.Kind.FORK, log, request, before.note, said, now)
        return RootDiffers(log.size, said)
    if request.old != log.size:
        return SizeDiffers(log.size, f"{log.size} leaves were cosigned last, not {request.old}")
    try:
        check_consistency(log.size, bytes(log.root), new.size, new.root, request.proof)
    except ProofBroken as error:
        if log.size:
            last = WitnessedCheckpoint.objects.get(log=log, size=log.size)
            _keep(Misbehaviour.Kind.BAD_PROOF, log, request, last.note, str(error), now)
        return ProofDoesNotHold(str(error))
    if new.size == 0 and new.root != EMPTY_ROOT:
        return ProofDoesNotHold("an empty log has one root, and this is another")
    if before is None:
        WitnessedCheckpoint.objects.create(log=log, size=new.size, root=new.root, note=request.text, cosigned_at=now)
        if not WitnessedLog.objects.filter(pk=log.pk, size=request.old).update(size=new.size, root=new.root):
            raise AssertionError("a locked row moved")
    return None


def _keep(
    kind: Misbehaviour.Kind, log: WitnessedLog, request: AddCheckpoint, cosigned: str, reason: str, now: dt.datetime
) -> None:
    if log.misbehaviours.count() >= MISBEHAVIOURS_KEPT:
        return
    Misbehaviour.objects.get_or_create(
        log=log,
        kind=kind,
        size=request.checkpoint.size,
        root=request.checkpoint.root,
        defaults={
            "note": request.text,
            "old_size": request.old,
            "proof": list(request.proof),
            "cosigned_note": cosigned,
            "reason": reason,
            "seen_at": now,
        },
    )
