"""Read a trust file: whose keys, chain and policy the checker believes. It never comes out of a tally.

It is what the house publishes at `/.well-known/tallystick.json`, signed by its root key, and beside it
the holder's own part, which nobody signs:

    "own": {"clients": ["<key ids of clients that I believe>"], "require": ["<claims that I insist on>"]}

The root key's fingerprint is the one thing to get by another way (paper, phone, a person).
"""

import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from jobs.client.shape import find_fault
from receipts.canonical import NotCanonical, decode, encode, unb64url
from receipts.checkpoint import COSIGNATURE_V1, NoteBroken, Vkey, make_vkey, parse_vkey
from receipts.keys import ROLES, SignatureBroken, verify_text

FORMAT: Final = "tallystick-trust/1"
WELL_KNOWN: Final = "/.well-known/tallystick.json"
MAX_TRUST_BYTES: Final = 1024 * 1024
CLAIMS: Final = (
    "receipts-canonical",
    "receipts-chain",
    "idempotency-keys",
    "request-signed",
    "work-signed",
    "promise",
    "inclusion",
    "checkpoint",
    "witnesses",
    "anchor",
    "anchor-on-chain",
    "usage",
    "attestation",
    "meter",
    "artifact",
    "credential",
    "mint",
    "mint-on-chain",
    "disclosure",
)
_VERSION: Final = re.compile(r"tallystick-trust/([1-9][0-9]{0,8})")


class NotATrustFile(ValueError):
    """This is no trust file that can be believed: `where` and `rule` say why."""

    def __init__(self, where: str, rule: str) -> None:
        super().__init__(f"{where}: {rule}" if where != "$" else rule)
        self.where = where
        self.rule = rule


@dataclass(frozen=True, slots=True)
class TrustedKey:
    """A key, its one role, and the leaves that it counts for: from `since_leaf` until before `until_leaf`."""

    role: str
    alg: str
    key_id: str
    since_leaf: int = 0
    until_leaf: int | None = None

    def counts_at(self, leaf: int) -> bool:
        """Say whether what this key signed for the receipt at `leaf` counts."""
        return self.since_leaf <= leaf and (self.until_leaf is None or leaf < self.until_leaf)


@dataclass(frozen=True, slots=True)
class TrustedChain:
    """The one chain, and on it the contracts and the sender that count. Addresses are lower-case."""

    chain_id: int
    register: str
    token: str
    minter: str
    committer: str
    confirmations: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """What the checker believes, and what they insist on."""

    origin: str
    log_nid: str
    log_url: str
    log_vkeys: tuple[Vkey, ...]
    keys: tuple[TrustedKey, ...]
    attesters: frozenset[str]
    threshold: int
    c2pa_root_pem: str
    chain: TrustedChain | None
    witnesses: tuple[Vkey, ...]
    witness_quorum: int  # so many of them vouch for a checkpoint; all, where the file does not say
    require: tuple[str, ...]
    embedded: bool
    root: str
    clients: frozenset[str]
    document: Mapping[str, Any]

    def holding(self, role: str) -> tuple[TrustedKey, ...]:
        """Give the keys of a role, in their order in the file."""
        return tuple(key for key in self.keys if key.role == role)


def read_trust(data: bytes) -> Trust:
    """Read a trust file and check its root signature.

    Raises: NotATrustFile.
    """
    try:
        value = decode(data, max_bytes=MAX_TRUST_BYTES)
    except NotCanonical as error:
        raise NotATrustFile(error.where, f"no trust file: {error.rule}") from None
    return trust_of(value)


def trust_of(value: Any) -> Trust:
    """Read a trust document that is decoded already, with or without the holder's own part.

    Raises: NotATrustFile.
    """
    if not isinstance(value, dict) or not isinstance(value.get("format"), str):
        raise NotATrustFile("$", f"no trust file: a JSON object whose format is {FORMAT} is due")
    if value["format"] != FORMAT:
        newer = _VERSION.fullmatch(value["format"])
        rule = f"is {value['format'][:40]!r}, this verifier reads {FORMAT}"
        raise NotATrustFile("format", f"newer: {rule}" if newer else rule)
    if fault := find_fault(_DOCUMENT, value):
        raise NotATrustFile(fault.where or "$", fault.rule)
    return _checked(value)


def add_own(document: Mapping[str, Any], *, clients: Iterable[str], require: Iterable[str] = ()) -> dict[str, Any]:
    """Put the holder's own part beside what the house published."""
    own: dict[str, Any] = {"clients": sorted(set(clients))}
    if wanted := list(require):
        own["require"] = wanted
    return {**{name: item for name, item in document.items() if name != "own"}, "own": own}


def require_root(trust: Trust, wanted: str) -> None:
    """Insist that `wanted` names the root key: its fingerprint (SHA-256 in hex, `sha256:` before it or not) or its id.

    Raises: NotATrustFile.
    """
    known = {trust.root, fingerprint(trust.root)}
    given = wanted.strip().removeprefix("sha256:")
    if not any(hmac.compare_digest(given.encode(), item.encode()) for item in known):
        raise NotATrustFile("signature", f"signed by the root key {fingerprint(trust.root)}, {given[:70]} is expected")


def fingerprint(key_id: str) -> str:
    """Give the SHA-256 of an Ed25519 public key, in hex: what people compare."""
    return hashlib.sha256(unb64url(key_id, size=32)).hexdigest()


def _checked(value: dict[str, Any]) -> Trust:
    keys = tuple(
        TrustedKey(key["role"], key["alg"], key["key_id"], key["since_leaf"], key.get("until_leaf"))
        for key in value["keys"]
    )
    signed = {name: item for name, item in value.items() if name not in ("signature", "own")}
    try:
        root = str(verify_text(encode(signed).decode(), value["signature"]))
    except SignatureBroken as error:
        raise NotATrustFile("signature", f"the root key's signature does not hold: {error}") from None
    if not any(key.role == "root" and key.key_id == root and key.until_leaf is None for key in keys):
        raise NotATrustFile("signature", f"signed by {root}, which the file does not name as its root key")
    _refuse_two_roles(keys)
    log, own = value["log"], value.get("own", {})
    return Trust(
        origin=log["origin"],
        log_nid=log["nid"],
        log_url=log["url"],
        log_vkeys=_log_vkeys(log, keys),
        keys=keys,
        attesters=frozenset(value["attesters"]["addresses"]),
        threshold=value["attesters"]["threshold"],
        c2pa_root_pem=value["c2pa"]["root_pem"],
        chain=TrustedChain(**value["chain"]) if "chain" in value else None,
        witnesses=tuple(_witness(index, text) for index, text in enumerate(value["witnesses"])),
        witness_quorum=_quorum(value),
        require=tuple(dict.fromkeys([*value["policy"]["require"], *own.get("require", [])])),
        embedded=value["policy"]["embedded"],
        root=root,
        clients=frozenset(own.get("clients", [])),
        document=value,
    )


def _refuse_two_roles(keys: tuple[TrustedKey, ...]) -> None:
    roles: dict[str, str] = {}
    for key in keys:
        if roles.setdefault(key.key_id, key.role) != key.role:
            raise NotATrustFile(
                "keys", f"{key.key_id} has two roles, {roles[key.key_id]} and {key.role}: a key has one"
            )


def _log_vkeys(log: Mapping[str, Any], keys: tuple[TrustedKey, ...]) -> tuple[Vkey, ...]:
    """Name every key that the log signs or signed with; the published one must be among them."""
    try:
        published = parse_vkey(log["vkey"])
        vkeys = tuple(make_vkey(log["origin"], unb64url(key.key_id, size=32)) for key in keys if key.role == "log")
    except (NoteBroken, NotCanonical) as error:
        raise NotATrustFile("log.vkey", str(error)) from None
    if published not in vkeys:
        raise NotATrustFile("log.vkey", "is not a key with the role log of this origin")
    return vkeys


def _quorum(value: Mapping[str, Any]) -> int:
    named = len(value["witnesses"])
    quorum: int = value["policy"].get("witness_quorum", named)
    if quorum > named:
        raise NotATrustFile("policy.witness_quorum", f"is {quorum}, and {named} witnesses are named")
    return quorum


def _witness(index: int, text: str) -> Vkey:
    try:
        vkey = parse_vkey(text)
    except NoteBroken as error:
        raise NotATrustFile(f"witnesses[{index}]", str(error)) from None
    if vkey.kind != COSIGNATURE_V1:
        raise NotATrustFile(f"witnesses[{index}]", "is not a key for cosignatures (type 0x04)")
    return vkey


def _fixed(required: dict[str, Any], optional: dict[str, Any] | None = None) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": required | (optional or {}),
        "required": list(required),
        "additionalProperties": False,
    }


def _list(items: dict[str, Any], least: int = 0, most: int = 10_000) -> dict[str, Any]:
    return {"type": "array", "items": items, "minItems": least, "maxItems": most}


_TEXT: Final = {"type": "string", "minLength": 1, "maxLength": 2_000}
_PEM: Final = {"type": "string", "maxLength": 100_000}
_NATURAL: Final = {"type": "integer", "minimum": 0}
_POSITIVE: Final = {"type": "integer", "minimum": 1}
_ADDRESS: Final = {"type": "string", "pattern": "^0x[0-9a-f]{40}$"}
_KEY_ID: Final = {"type": "string", "pattern": "^([A-Za-z0-9_-]{43}|0x[0-9a-f]{40})$"}
_CLAIM: Final = {"enum": list(CLAIMS)}
_DOCUMENT: Final = _fixed(
    {
        "format": {"const": FORMAT},
        "log": _fixed(
            {
                "origin": _TEXT,
                "vkey": _TEXT,
                "nid": {"type": "string", "pattern": "^bafkrei[a-z2-7]{52}$"},
                "url": _TEXT,
            }
        ),
        "keys": _list(
            _fixed(
                {
                    "role": {"enum": list(ROLES)},
                    "alg": {"enum": ["Ed25519", "secp256k1", "ES256"]},
                    "key_id": _KEY_ID,
                    "since_leaf": _NATURAL,
                },
                {"until_leaf": _NATURAL},
            ),
            1,
        ),
        "attesters": _fixed({"addresses": _list(_ADDRESS), "threshold": _POSITIVE}),
        "c2pa": _fixed({"root_pem": _PEM}, {"tsa_root_pem": _PEM}),
        "witnesses": _list(_TEXT, most=64),
        "policy": _fixed({"require": _list(_CLAIM), "embedded": {"type": "boolean"}}, {"witness_quorum": _POSITIVE}),
        "signature": _fixed({"alg": {"const": "Ed25519"}, "key_id": _KEY_ID, "sig": _TEXT}),
    },
    {
        "chain": _fixed(
            {
                "chain_id": _POSITIVE,
                "register": _ADDRESS,
                "token": _ADDRESS,
                "minter": _ADDRESS,
                "committer": _ADDRESS,
                "confirmations": _NATURAL,
            }
        ),
        "own": _fixed({"clients": _list(_KEY_ID)}, {"require": _list(_CLAIM)}),
    },
)
