"""Say what is done to a key, sign it, and check who may have said so. Pure.

A key act is a line of canonical JSON. Its signatures lie beside it, so that it can be signed where a key lives
and logged where it does not. Who may act:

    added, revoked   a root key that counts
    rotated          a root key that counts, or both keys: the one that steps down and the one that follows
    rotated root     both root keys, always: nobody becomes root without holding its key

Source: signatures by secp256k1 keys are EIP-191 (`personal_sign`), which hardware wallets speak too.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from receipts.canonical import MAX_SAFE_INTEGER, NotCanonical, b64url, decode_canonical, encode, read_utc, unb64url
from receipts.keys import (
    ROLES,
    Ed25519Signer,
    Secp256k1Signer,
    Signature,
    SignatureBroken,
    keccak256,
    recover_address,
    sign_text,
    verify_text,
)

EIP_191: Final = "EIP-191"
ADDED: Final = "added"
ROTATED: Final = "rotated"
REVOKED: Final = "revoked"
MAX_SIGNATURES: Final = 3  # the root's and both keys'
_ALWAYS: Final = frozenset({"v", "type", "act", "role", "key_id", "from_leaf", "at"})
_SOMETIMES: Final = frozenset({"replaces", "until_leaf", "reason"})


class KeyActRefused(ValueError):
    """A key act is malformed, or nobody who may say so has signed it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyAct:
    """What is done to a key. Leaves are counted in the log of the house.

    `from_leaf`: added and rotated, the first leaf that `key_id` counts for; revoked, the first that it no longer
    counts for. `until_leaf`: rotated, the first leaf that `replaces` no longer counts for; `from_leaf` unless given.
    """

    act: str
    role: str
    key_id: str
    from_leaf: int
    at: str
    replaces: str = ""
    until_leaf: int | None = None
    reason: str = ""

    @property
    def ends_at(self) -> int:
        """The first leaf that the key which steps down no longer counts for."""
        return self.from_leaf if self.until_leaf is None else self.until_leaf

    def text(self) -> str:
        """Write the line that is signed."""
        body: dict[str, Any] = {
            "v": 1,
            "type": "KeyAct",
            "act": self.act,
            "role": self.role,
            "key_id": self.key_id,
            "from_leaf": self.from_leaf,
            "at": self.at,
        }
        if self.replaces:
            body["replaces"] = self.replaces
        if self.until_leaf is not None:
            body["until_leaf"] = self.until_leaf
        if self.reason:
            body["reason"] = self.reason
        return encode(body).decode()


def read_act(text: str) -> KeyAct:
    """Read a key act. Raises: KeyActRefused."""
    try:
        body = decode_canonical(text.encode())
        if not isinstance(body, dict) or not _ALWAYS <= body.keys() <= _ALWAYS | _SOMETIMES:
            raise KeyActRefused(f"a key act has {', '.join(sorted(_ALWAYS))}, and perhaps {', '.join(_SOMETIMES)}")
        told = {name: value for name, value in body.items() if name not in ("v", "type")}
        for name, value in told.items():
            _require_type(name, value)
        if body["v"] != 1 or body["type"] != "KeyAct":
            raise KeyActRefused(f"is {body['type']!r} of version {body['v']!r}, KeyAct of version 1 is due")
        act = KeyAct(**told)
        read_utc(act.at)
    except NotCanonical as error:
        raise KeyActRefused(str(error)) from None
    if act.act not in (ADDED, ROTATED, REVOKED) or act.role not in ROLES:
        raise KeyActRefused(f"{act.act[:20]!r} of the role {act.role[:20]!r} is no act on a key")
    if (act.act == ROTATED) != bool(act.replaces) or act.replaces == act.key_id:
        raise KeyActRefused("`replaces` names another key, where one is rotated and nowhere else")
    if act.ends_at < act.from_leaf or (act.until_leaf is not None and act.act != ROTATED):
        raise KeyActRefused("`until_leaf` stands where a key is rotated, and not before `from_leaf`")
    return act


def sign_act(signer: Ed25519Signer | Secp256k1Signer, text: str) -> Signature:
    """Sign a key act's text with any key."""
    if isinstance(signer, Ed25519Signer):
        return sign_text(signer, text)
    return {"alg": EIP_191, "key_id": signer.key_id, "sig": b64url(signer.sign_digest(_eip_191(text)))}


def check_act(text: str, signatures: Sequence[Mapping[str, Any]], *, roots: Collection[str]) -> KeyAct:
    """Check that who may say so has signed a key act; every signature that is shown must hold.

    Raises: KeyActRefused.
    """
    act = read_act(text)
    if not 1 <= len(signatures) <= MAX_SIGNATURES:
        raise KeyActRefused(f"has {len(signatures)} signatures, 1 to {MAX_SIGNATURES} are due")
    signers: set[str] = set()
    for signature in signatures:
        signer = _signer(text, signature)
        if signer in signers:
            raise KeyActRefused(f"{signer} signed twice")
        signers.add(signer)
    both = act.act == ROTATED and {act.replaces, act.key_id} <= signers
    if act.act == ROTATED and act.role == "root":
        if not both:
            raise KeyActRefused("a root key is rotated by both root keys, the old and the new")
        if act.replaces not in roots:
            raise KeyActRefused(f"{act.replaces} is no root key that counts")
    elif not both and not signers & set(roots):
        due = "a root key or both keys" if act.act == ROTATED else "a root key"
        raise KeyActRefused(f"signed by {', '.join(sorted(signers))}: {due} must sign that a key is {act.act}")
    return act


def _signer(text: str, signature: Mapping[str, Any]) -> str:
    try:
        if signature.get("alg") != EIP_191:
            return str(verify_text(text, signature))
        if set(signature) != {"alg", "key_id", "sig"} or not all(isinstance(item, str) for item in signature.values()):
            raise SignatureBroken("a signature has alg, key_id and sig, each as text")
        signer = recover_address(_eip_191(text), unb64url(signature["sig"], size=65))
        if signer != signature["key_id"]:
            raise SignatureBroken(f"signed by {signer}, {signature['key_id'][:50]} is named")
    except NotCanonical as error:
        raise KeyActRefused(f"a signature's sig: {error.rule}") from None
    except SignatureBroken as error:
        raise KeyActRefused(f"a signature does not hold: {error}") from None
    return signer


def _eip_191(text: str) -> bytes:
    raw = text.encode()
    return keccak256(b"\x19Ethereum Signed Message:\n" + str(len(raw)).encode() + raw)


def _require_type(name: str, value: Any) -> None:
    if name in ("from_leaf", "until_leaf"):
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_SAFE_INTEGER:
            raise KeyActRefused(f"{name} must be a leaf's number")
    elif not isinstance(value, str) or not value:
        raise KeyActRefused(f"{name} must be text")
