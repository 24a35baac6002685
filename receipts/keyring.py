"""Bring keys into the house, rotate and revoke them: each act is a public receipt, and counts from a leaf.

An act names leaves, never times: whoever holds a stolen key can write any time, but no leaf that is already given.
An act that ends a key holds the queue of pending receipts still while it is written. So every receipt that was
recorded before has a leaf below the act's own receipt, whose leaf is the one that the act names:

    … receipts under the old key … | KeyRotated at leaf B | … receipts under the new key …

The new private key lies staged beside the old one's file before the act is committed, and takes its place after:

    staged, not committed   the old key counts and signs; repeat the rotation, or remove the staged file
    committed, not placed   the new key counts, the old one lies in its place: `settle` puts the staged file there
"""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, cast

from django.conf import settings
from django.db import OperationalError, connection, transaction
from django.db.models import Q, QuerySet

from receipts.canonical import decode, utc
from receipts.keyacts import ADDED, REVOKED, ROTATED, KeyAct, KeyActRefused, check_act, read_act, sign_act
from receipts.keys import (
    Ed25519Signer,
    KeyUnusable,
    Role,
    Secp256k1Signer,
    Signature,
    ed25519_signer,
    key_path,
    load_signer,
    read_key_file,
    settle_key_file,
    stage_key_file,
    staged_path,
)
from receipts.log import log_head
from receipts.models import Pending, PublicKey, Receipt, Tenant
from receipts.record import database_now, record

ONE_AT_A_TIME: Final = ("root", "log")  # two of them at once would be two houses, or two logs
OF_THE_HOUSE: Final[tuple[Role, ...]] = ("root", "log", "hub", "attester", "sender")
SUCCESSIONS: Final = 64
_LOCK_SECONDS: Final = 10


class KeyRefused(Exception):
    """A key can't be added, rotated or revoked so. The message says which rule it breaks."""


class MustBeSigned(KeyRefused):
    """The act waits for a signature that this machine can't make: `text` is what is to be signed."""

    def __init__(self, act: KeyAct, why: str) -> None:
        super().__init__(why)
        self.text = act.text()


@dataclass(frozen=True, slots=True)
class SignedAct:
    """A key act with the signatures that were made elsewhere."""

    text: str
    signatures: tuple[Signature, ...]

    def as_json(self) -> dict[str, Any]:
        """Give it as the file that travels."""
        return {"claim": self.text, "signatures": [dict(item) for item in self.signatures]}


def add_key(
    *,
    role: str,
    alg: str,
    key_id: str,
    tenant: Tenant | None = None,
    label: str = "",
    signed: SignedAct | None = None,
) -> PublicKey:
    """Let a key count for a role from the log's present size on. The same key again changes nothing.

    Raises: KeyRefused; MustBeSigned, when neither the root key nor its signature is at hand.
    """
    known = PublicKey.objects.filter(key_id=key_id).first()
    if known is not None:
        _require_same(known, role, tenant)
        return known
    if role in ONE_AT_A_TIME and (counts := counting(role).first()):
        raise KeyRefused(f"{counts.key_id} is the house's {role} key: rotate it, a house has one")
    with transaction.atomic():
        now = database_now()
        act = KeyAct(act=ADDED, role=role, key_id=key_id, from_leaf=log_head().size, at=utc(now))
        act, signatures = _agreed(act, signed, [], roots=_roots())
        key = PublicKey.objects.create(
            role=role, alg=alg, key_id=key_id, tenant=tenant, label=label, since_leaf=act.from_leaf
        )
        _record(act, signatures, now)
    return key


def rotate_key(
    *,
    role: str,
    old: str,
    new: Ed25519Signer | Secp256k1Signer | str,
    stepping_down: Ed25519Signer | Secp256k1Signer | None = None,
    overlap: int = 0,
    signed: SignedAct | None = None,
) -> KeyAct:
    """End one key and begin another at the same leaf; with an `overlap`, both count for so many leaves.

    Both keys sign where both are at hand, and the root where it is. `new` is an id where the key lives elsewhere.
    Raises: KeyRefused; MustBeSigned.
    """
    new_id = new if isinstance(new, str) else str(new.key_id)
    if overlap < 0 or (overlap and role in ONE_AT_A_TIME):
        raise KeyRefused(f"overlap is {overlap}: 0 is due for a {role} key, and never less")
    with transaction.atomic():
        ends = _held(role, old)
        if ends.until_leaf is not None:
            raise KeyRefused(f"{old} counts until leaf {ends.until_leaf} already: it can't be rotated again")
        if PublicKey.objects.filter(key_id=new_id).exists():
            raise KeyRefused(f"{new_id} is a key of this house already: a key has one role, once")
        if alg_of(new_id) != ends.alg:
            raise KeyRefused(f"{new_id} is no {ends.alg} key, as the {role} key is")
        boundary, now = _hold_still()
        act = KeyAct(
            act=ROTATED,
            role=role,
            key_id=new_id,
            from_leaf=boundary,
            at=utc(now),
            replaces=old,
            until_leaf=boundary + overlap if overlap else None,
        )
        both = [signer for signer in (stepping_down, new) if signer is not None and not isinstance(signer, str)]
        act, signatures = _agreed(act, signed, both, roots=_roots())
        if not ends.since_leaf <= act.from_leaf <= boundary:
            raise KeyRefused(f"from_leaf is {act.from_leaf}: from {ends.since_leaf} to {boundary} is due")
        PublicKey.objects.filter(pk=ends.pk).update(until_leaf=act.ends_at)
        PublicKey.objects.create(
            role=role, alg=ends.alg, key_id=new_id, tenant=ends.tenant, label=ends.label, since_leaf=act.from_leaf
        )
        _record(act, signatures, now)
    return act


def revoke_key(
    *, role: str, key_id: str, from_leaf: int | None = None, reason: str, signed: SignedAct | None = None
) -> KeyAct:
    """Let a key count for no leaf from `from_leaf` on, which lies in the past; without one, from now on.

    Raises: KeyRefused; MustBeSigned.
    """
    with transaction.atomic():
        key = _held(role, key_id)
        boundary, now = _hold_still()
        wanted = boundary if from_leaf is None else from_leaf
        act = KeyAct(act=REVOKED, role=role, key_id=key_id, from_leaf=wanted, at=utc(now), reason=reason)
        if signed is None:  # a malformed act is refused before anybody is asked to sign it
            _require_revocable(key, wanted, boundary)
        act, signatures = _agreed(act, signed, [], roots=_roots(), exact=from_leaf is not None)
        _require_revocable(key, act.from_leaf, boundary)
        PublicKey.objects.filter(pk=key.pk).update(until_leaf=act.from_leaf)
        _record(act, signatures, now)
    return act


def rotate_file(*, role: Role, new: Path, overlap: int = 0, signed: SignedAct | None = None) -> KeyAct:
    """Rotate a key that this machine signs with: log the act, then put the new key in the old one's place.

    Raises: KeyRefused, KeyUnusable; MustBeSigned.
    """
    settle(role)
    following, current = read_key_file(new), load_signer(role, Path(settings.KEYS_DIR))
    path = key_path(role, Path(settings.KEYS_DIR))
    if path is not None:
        stage_key_file(path, new)
    try:
        act = rotate_key(
            role=role, old=current.key_id, new=following, stepping_down=current, overlap=overlap, signed=signed
        )
    except KeyRefused:
        if path is not None:
            staged_path(path).unlink(missing_ok=True)
        raise
    # Point of no return: the new key counts. A crash here leaves it staged, and `settle` puts it in its place.
    if path is not None:
        settle_key_file(path)
    return act


def settle(role: Role) -> str | None:
    """Finish a rotation that a crash cut between its receipt and its file; say what was done, None where nothing was.

    Raises: KeyRefused, when the key on disk does not count and none that does is at hand; KeyUnusable.
    """
    keys_dir = Path(settings.KEYS_DIR)
    path = key_path(role, keys_dir)
    if path is not None and not path.exists():
        return None
    current = PublicKey.objects.filter(role=role, key_id=load_signer(role, keys_dir).key_id).first()
    if current is None or current.until_leaf is None:
        return None
    staged = staged_path(path) if path is not None else None
    if staged is None or not staged.exists():
        raise KeyRefused(
            f"the {role} key at hand, {current.key_id}, counts until leaf {current.until_leaf} alone: "
            "put the key that follows it in its place"
        )
    following = read_key_file(staged)
    if not counting(role).filter(key_id=following.key_id).exists():
        raise KeyRefused(f"{staged} holds {following.key_id}, which is no {role} key that counts")
    assert path is not None
    settle_key_file(path)
    return f"the {role} key {following.key_id} is in its place"


def counting(role: str, leaf: int | None = None) -> QuerySet[PublicKey]:
    """The keys that count for a role: at a leaf, or without one, those whose end is not yet told."""
    keys = PublicKey.objects.filter(role=role).order_by("id")
    if leaf is None:
        return keys.filter(until_leaf=None)
    return keys.filter(Q(until_leaf=None) | Q(until_leaf__gt=leaf), since_leaf__lte=leaf)


def successions(roots: Sequence[str]) -> list[dict[str, Any]]:
    """Give the acts by which each of these root keys named the next, oldest first, as they were logged."""
    rows = Receipt.objects.filter(event_type="KeyRotated", subject__in=[f"key:{key_id}" for key_id in roots])
    told = [decode(bytes(body))["data"] for body in rows.order_by("id").values_list("body", flat=True)]
    return [{"claim": data["claim"], "signatures": data["signatures"]} for data in told if data["act"] == ROTATED][
        -SUCCESSIONS:
    ]


def alg_of(key_id: str) -> str:
    """Tell an id's algorithm: addresses are secp256k1, the rest Ed25519."""
    return PublicKey.Alg.SECP256K1 if key_id.startswith("0x") else PublicKey.Alg.ED25519


def read_signed(value: Any) -> SignedAct:
    """Read the file that travels. Raises: KeyRefused."""
    shape = isinstance(value, dict) and set(value) == {"claim", "signatures"} and isinstance(value["claim"], str)
    if not shape or not isinstance(value["signatures"], list) or not value["signatures"]:
        raise KeyRefused("a signed act has claim and signatures: make one with `manage.py keys sign-claim`")
    if not all(isinstance(item, dict) for item in value["signatures"]):
        raise KeyRefused("signatures: each has alg, key_id and sig")
    return SignedAct(value["claim"], tuple(cast("list[Signature]", value["signatures"])))


def sign_elsewhere(
    text: str, signers: Sequence[Ed25519Signer | Secp256k1Signer], already: Sequence[Signature] = ()
) -> SignedAct:
    """Sign an act where the keys live. Raises: KeyRefused, for what is no act."""
    try:
        read_act(text)
    except KeyActRefused as error:
        raise KeyRefused(f"the claim {error}") from None
    made = [sign_act(signer, text) for signer in signers]
    ours = {item["key_id"] for item in made}
    return SignedAct(text, (*(item for item in already if item["key_id"] not in ours), *made))


def _agreed(
    asked: KeyAct,
    signed: SignedAct | None,
    signers: Sequence[Ed25519Signer | Secp256k1Signer],
    *,
    roots: Sequence[str],
    exact: bool = False,
) -> tuple[KeyAct, tuple[Signature, ...]]:
    """Have an act signed by who is here, or take what was signed elsewhere where it says the same.

    What was signed elsewhere names its own time, and its own leaves unless these are asked for `exact`ly: the log
    went on while it travelled.
    """
    if signed is not None:
        try:
            told = check_act(signed.text, signed.signatures, roots=roots)
        except KeyActRefused as error:
            raise KeyRefused(f"the signed act {error}") from None
        same = replace(told, at=asked.at)
        if not exact:
            same = replace(same, from_leaf=asked.from_leaf, until_leaf=asked.until_leaf)
        if same != asked:
            raise KeyRefused(f"the signed act says {signed.text[:300]}, which is not what is asked for")
        return told, signed.signatures
    text = asked.text()
    made = [sign_act(signer, text) for signer in signers]
    root = _root_at_hand()
    if root is not None and root.key_id in roots and all(item["key_id"] != root.key_id for item in made):
        made.insert(0, sign_act(root, text))
    try:
        check_act(text, made, roots=roots)
    except KeyActRefused as error:
        where = "is not on this machine" if root is None else f"on this machine is {root.key_id}"
        raise MustBeSigned(asked, f"{error}; the root key {where}" if made else f"the root key {where}") from None
    return asked, tuple(made)


def _root_at_hand() -> Ed25519Signer | None:
    try:
        return ed25519_signer("root", Path(settings.KEYS_DIR))
    except KeyUnusable:
        return None


def _record(act: KeyAct, signatures: Sequence[Signature], now: dt.datetime) -> None:
    subject = f"key:{act.key_id}"
    data: dict[str, Any] = {
        "role": act.role,
        "act": act.act,
        "key_id": act.key_id,
        "from_leaf": act.from_leaf,
        "claim": act.text(),
        "signatures": [dict(item) for item in signatures],
    }
    data |= {"replaces": act.replaces} if act.replaces else {}
    data |= {"until_leaf": act.until_leaf} if act.until_leaf is not None else {}
    data |= {"reason": act.reason} if act.reason else {}
    roots = [item["key_id"] for item in signatures if item["key_id"] in _roots()]
    record(
        event_type="KeyRotated",
        subject=subject,
        tenant_id=None,
        actor=f"root:{roots[0]}" if roots else f"{act.role}:{act.replaces}",
        data=data,
        n=Receipt.objects.filter(subject=subject, event_type="KeyRotated").count(),
        occurred_at=now,
    )


def _hold_still() -> tuple[int, dt.datetime]:
    """Let no receipt be recorded until this transaction ends; give the leaf that the next one will have.

    Whoever is about to record waits. Whoever has recorded is counted: their receipts get the leaves before.
    """
    with connection.cursor() as cursor:
        cursor.execute(f"SET LOCAL lock_timeout = '{_LOCK_SECONDS}s'")
        try:
            cursor.execute("LOCK TABLE receipts_pending IN SHARE ROW EXCLUSIVE MODE")
        except OperationalError:
            raise KeyRefused(f"receipts are being recorded for more than {_LOCK_SECONDS} s: try again") from None
        cursor.execute("SET LOCAL lock_timeout = DEFAULT")
    return log_head().size + Pending.objects.count(), database_now()


def _held(role: str, key_id: str) -> PublicKey:
    """Lock the row of a key of this role. Taken before the queue is held still, by everybody in this order."""
    key = PublicKey.objects.select_for_update(of=("self",)).filter(role=role, key_id=key_id).first()
    if key is None:
        raise KeyRefused(f"{key_id} is no {role} key of this house")
    return key


def _require_same(known: PublicKey, role: str, tenant: Tenant | None) -> None:
    if known.role != role:
        raise KeyRefused(f"{known.key_id} is a {known.role} key of this house: a key has one role")
    if known.until_leaf is not None:
        raise KeyRefused(f"{known.key_id} counts until leaf {known.until_leaf} alone: it does not come back")
    if tenant is not None and known.tenant_id != tenant.pk:
        raise KeyRefused(f"{known.key_id} is another tenant's key")


def _require_revocable(key: PublicKey, from_leaf: int, boundary: int) -> None:
    if from_leaf > boundary:
        raise KeyRefused(f"from_leaf is {from_leaf}, which lies in the future: at most {boundary} is due")
    if from_leaf < key.since_leaf:
        raise KeyRefused(f"from_leaf is {from_leaf}: the key counts from leaf {key.since_leaf} on")
    if key.until_leaf is not None and from_leaf >= key.until_leaf:
        raise KeyRefused(f"from_leaf is {from_leaf}: the key counts until leaf {key.until_leaf} already")
    if key.role == PublicKey.Role.ROOT and key.until_leaf is None:
        raise KeyRefused(f"{key.key_id} is the house's root key: rotate it, a house has one")


def _roots() -> list[str]:
    """The root keys that may sign now. While a house is founded that is the one at hand."""
    known = PublicKey.objects.filter(role=PublicKey.Role.ROOT).order_by("id").values_list("key_id", "until_leaf")
    if known:
        return [key_id for key_id, until_leaf in known if until_leaf is None]
    root = _root_at_hand()
    return [str(root.key_id)] if root else []
