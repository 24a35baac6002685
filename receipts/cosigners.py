"""Ask other houses to cosign our checkpoints, and say which checkpoints enough of them did.

A turn claims the witnesses that are due, asks them all at once, and stores each answer as it comes; no transaction
is open while somebody is asked. The published file follows the rows: the log's own next turn writes it.

    newest checkpoint --old size, proof--> witness --200--> cosignature, a row
                                                   --409--> its size: asked again from there
                                                   --422, or another root--> an alarm, kept
                                                   --no answer--> asked later, ever less often

A crash leaves a claim that ends by itself. A witness that cosigned and was not heard is asked once more.
"""

import datetime as dt
import random
import re
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from typing import Any, Final

from django.conf import settings
from django.db import transaction
from django.db.models import Count, Q, QuerySet

from receipts.checkpoint import (
    COSIGNATURE_V1,
    NoteBroken,
    SignedNote,
    Vkey,
    check_cosignature,
    parse_note,
    parse_signatures,
    parse_vkey,
)
from receipts.log import LogError, read_tile
from receipts.merkle import consistency_proof
from receipts.models import Checkpoint, Cosignature, WitnessAlarm, WitnessStatus
from receipts.record import database_now
from receipts.tiles import reader
from receipts.witness_request import SIZE_TYPE, RequestMalformed, read_size, write_request

TURN_SECONDS: Final = 15.0  # a conversation is over by then; a claim ends a little later
_CONNECT_SECONDS: Final = 3.0
_READ_SECONDS: Final = 5.0
_TRIES: Final = 3  # of one conversation: a wrong guess at its size, its size, and one to spare
_MAX_ANSWER_BYTES: Final = 16 * 1024
_LONGEST_PAUSE_SECONDS: Final = 600.0
_CLOCKS_DIFFER_SECONDS: Final = 300
_ENTRY: Final = re.compile(r"(?P<vkey>\S+?)@(?P<url>https?://\S+)")

Prove = Callable[[int, int], Sequence[bytes]]


class WitnessesWrong(ValueError):
    """An entry of WITNESSES is not `<vkey>@<url>`."""


@dataclass(frozen=True, slots=True)
class Witness:
    """Somebody who is asked to cosign: their key, and the prefix of the address to ask at."""

    vkey: Vkey
    url: str

    @property
    def key(self) -> str:
        return str(self.vkey)


@dataclass(slots=True)
class Told:
    """What came of a conversation: in words for people, and what is to be kept."""

    witness: Witness
    words: str = ""
    line: str | None = None  # the cosignature
    time_s: int = 0
    alarms: list[tuple[str, int, str]] = field(default_factory=list)  # kind, HTTP status, answer


def witnesses() -> tuple[Witness, ...]:
    """Read whom the setting WITNESSES names. Raises: WitnessesWrong, naming the entry and the rule."""
    found: dict[str, Witness] = {}
    for entry in settings.WITNESSES:
        told = _ENTRY.fullmatch(entry)
        if told is None:
            raise WitnessesWrong(f"{entry[:60]!r} is not <vkey>@<http address>")
        try:
            vkey = parse_vkey(told["vkey"])
        except NoteBroken as error:
            raise WitnessesWrong(f"{entry[:60]!r}: {error}") from None
        if vkey.kind != COSIGNATURE_V1:
            raise WitnessesWrong(f"{entry[:60]!r} is a log's key: a witness's has type 0x04")
        if str(vkey) in found:
            raise WitnessesWrong(f"{vkey.name} stands there twice")
        found[str(vkey)] = Witness(vkey, told["url"].rstrip("/"))
    return tuple(found.values())


# --- which checkpoints are final -----------------------------------------------------------------


def is_final(checkpoint: Checkpoint) -> bool:
    """Tell whether as many witnesses cosigned a checkpoint as WITNESS_QUORUM asks for; without one, every one is."""
    return not settings.WITNESS_QUORUM or _cosigned_enough().filter(checkpoint=checkpoint).exists()


def newest_final(*, at_least: int = 0) -> Checkpoint | None:
    """Find the newest checkpoint that is final and has that many leaves or more."""
    rows = Checkpoint.objects.filter(size__gte=at_least).order_by("-size")
    if not settings.WITNESS_QUORUM:
        return rows.first()
    size = _cosigned_enough().filter(checkpoint__gte=at_least).order_by("-checkpoint").first()
    return rows.get(size=size["checkpoint"]) if size else None


def _cosigned_enough() -> "QuerySet[Cosignature, Any]":
    keys = [witness.key for witness in witnesses()]
    return (
        Cosignature.objects.order_by()
        .values("checkpoint")
        .annotate(counted=Count("id", filter=Q(vkey__in=keys)))
        .filter(counted__gte=settings.WITNESS_QUORUM)
    )


# --- a turn --------------------------------------------------------------------------------------


def turn() -> list[Told]:
    """Ask every witness that is due to cosign the newest checkpoint, and keep what they say.

    Raises: WitnessesWrong.
    """
    named = {witness.key: witness for witness in witnesses()}
    newest = Checkpoint.objects.order_by("-size").first() if named else None
    if newest is None:
        return []
    due = _claim(named, newest)
    if not due:
        return []
    last = dict(
        Cosignature.objects.filter(vkey__in=due)
        .order_by("vkey", "-checkpoint")
        .distinct("vkey")
        .values_list("vkey", "checkpoint_id")
    )
    done: list[Told] = []
    with ThreadPoolExecutor(max_workers=len(due), thread_name_prefix="witness") as pool:
        asked = [pool.submit(converse, named[key], newest.note, newest.size, last.get(key, 0), prove) for key in due]
        # Each is stored as it comes, not when the slowest has answered.
        done.extend(_keep(answer.result(), newest) for answer in as_completed(asked))
    return done


def prove(old: int, new: int) -> list[bytes]:
    """Prove from the published tiles that the log of `new` leaves begins with that of `old`."""
    return consistency_proof(reader(read_tile, new), old, new)


def _claim(named: dict[str, Witness], newest: Checkpoint) -> list[str]:
    """Claim the witnesses that are due; none while another turn is under way: one process at most waits for them."""
    with transaction.atomic():
        now = database_now()
        WitnessStatus.objects.bulk_create(
            [WitnessStatus(vkey=key, ask_after=now, told_at=now) for key in sorted(named)], ignore_conflicts=True
        )
        rows = list(WitnessStatus.objects.select_for_update().filter(vkey__in=list(named)).order_by("vkey"))
        if any(row.claimed_until is not None and row.claimed_until > now for row in rows):
            return []
        cosigned = set(Cosignature.objects.filter(checkpoint=newest).values_list("vkey", flat=True))
        due = [row.vkey for row in rows if row.ask_after <= now and row.vkey not in cosigned]
        until = now + dt.timedelta(seconds=2 * TURN_SECONDS)
        WitnessStatus.objects.filter(vkey__in=due).update(claimed_until=until)
    return due


def _keep(told: Told, checkpoint: Checkpoint) -> Told:
    """Store what a witness said, and when it is asked next."""
    key = told.witness.key
    with transaction.atomic():
        now = database_now()
        for kind, status, answer in told.alarms:
            WitnessAlarm.objects.get_or_create(
                checkpoint=checkpoint,
                vkey=key,
                kind=kind,
                defaults={"status": status, "answer": answer, "seen_at": now},
            )
        if told.line is not None:
            signed_at = dt.datetime.fromtimestamp(told.time_s, dt.UTC)
            Cosignature.objects.get_or_create(
                checkpoint=checkpoint,
                vkey=key,
                defaults={"line": told.line, "signed_at": signed_at, "received_at": now},
            )
        row = WitnessStatus.objects.select_for_update().get(vkey=key)
        row.failures = 0 if told.line is not None else row.failures + 1
        row.ask_after = _again(now, row.failures)
        row.claimed_until, row.told, row.told_at = None, told.words[:500], now
        row.save()
    return told


def _again(now: dt.datetime, failures: int) -> dt.datetime:
    """Say when a witness is asked next: after failures ever later, with jitter, so that houses do not come at once.

    Else at the next beat of one clock for all witnesses, so that they cosign the same checkpoints: a quorum is theirs
    only on one that they all saw.
    """
    if failures:
        longest = min(_LONGEST_PAUSE_SECONDS, 2.0 ** min(failures, 16))
        return now + dt.timedelta(seconds=random.uniform(longest / 2, longest))  # noqa: S311
    beat = settings.WITNESS_SECONDS
    return now + dt.timedelta(seconds=beat - now.timestamp() % beat if beat else 0)


# --- a conversation ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    media_type: str
    body: bytes

    def __str__(self) -> str:
        """Show what it said as one printable line: it is stored, and shown to people."""
        text = self.body[:2_000].decode("utf-8", "replace").strip()
        return "".join(character if character.isprintable() else " " for character in text)


class _NoAnswer(Exception):
    """None came, or one that is too long or too slow."""


def converse(witness: Witness, note: str, size: int, last: int, proving: Prove) -> Told:
    """Ask a witness until it cosigns or says no. Touches no database: it runs in a thread.

    `last` is the size that it cosigned last, as far as we know.
    """
    told, old = Told(witness), min(last, size)
    deadline = time.monotonic() + TURN_SECONDS
    try:
        for _ in range(_TRIES):
            answer = _post(witness, write_request(old, proving(old, size), note), deadline)
            if answer.status == 200:
                _read_cosignature(told, answer, parse_note(note))
                return told
            if answer.status != 409 or answer.media_type != SIZE_TYPE:
                return _refused(told, answer)
            known = read_size(answer.body)
            if known < last:
                told.alarms.append((WitnessAlarm.Kind.WENT_BACK, 409, f"it says {known}, and cosigned {last}"))
            if known > size:
                told.alarms.append((WitnessAlarm.Kind.AHEAD, 409, f"it says {known}, we have {size}"))
                told.words = f"it has cosigned {known} leaves of this log, which has {size}"
                return told
            if known == old:  # the size was right, so the root is not: one size, two roots
                told.alarms.append((WitnessAlarm.Kind.REFUSED, 409, str(answer)))
                told.words = f"it cosigned another root for {known} leaves"
                return told
            old = known
        told.words = "it names another size each time"
    except (_NoAnswer, RequestMalformed, LogError) as error:
        told.words = str(error)
    return told


def _refused(told: Told, answer: _Answer) -> Told:
    told.words = f"it answers {answer.status}: {answer}"
    if answer.status == 422:
        told.alarms.append((WitnessAlarm.Kind.REFUSED, 422, str(answer)))
    return told


def _read_cosignature(told: Told, answer: _Answer, note: SignedNote) -> None:
    """Find the witness's own line in its answer and check it; lines of other keys are passed over."""
    vkey = told.witness.vkey
    try:
        lines = parse_signatures(answer.body.decode())
        mine = tuple(line for line in lines if (line.name, line.key_hash) == (vkey.name, vkey.key_hash))
        time_s = check_cosignature(SignedNote(note.text, mine), vkey)
    except (NoteBroken, UnicodeDecodeError) as error:
        told.words = f"what it answers is no cosignature of its key: {error}"
        told.alarms.append((WitnessAlarm.Kind.BAD_COSIGNATURE, 200, str(answer)))
        return
    if abs(time_s - time.time()) > _CLOCKS_DIFFER_SECONDS:
        told.words = f"its clock says {time_s} s, ours {time.time():.0f} s"
        return
    told.words, told.line, told.time_s = "cosigned", str(mine[0]), time_s


def _post(witness: Witness, body: bytes, deadline: float) -> _Answer:
    """Send one request and read a bounded answer. Raises: _NoAnswer."""
    import requests

    try:
        with requests.post(
            f"{witness.url}/add-checkpoint",
            data=body,
            headers={"Content-Type": "text/plain; charset=utf-8"},
            timeout=(_CONNECT_SECONDS, _READ_SECONDS),
            stream=True,
            allow_redirects=False,
        ) as response:
            read = b"".join(_parts(response.iter_content(1024), deadline))
            media_type = response.headers.get("Content-Type", "").partition(";")[0].strip()
            return _Answer(response.status_code, media_type, read)
    except requests.Timeout:
        raise _NoAnswer("no answer in time") from None
    except requests.RequestException as error:
        raise _NoAnswer(f"no answer: {type(error).__name__}") from None


def _parts(parts: Iterator[bytes], deadline: float) -> Iterator[bytes]:
    size = 0
    for part in parts:
        size += len(part)
        if size > _MAX_ANSWER_BYTES:
            raise _NoAnswer(f"its answer is longer than {_MAX_ANSWER_BYTES} bytes")
        if time.monotonic() > deadline:
            raise _NoAnswer("its answer came too slowly")
        yield part
