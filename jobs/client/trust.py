"""Read a trust file: whose keys, chain and policy the checker believes. It never comes out of a tally.

It is what the house publishes at `/.well-known/tallystick.json`, signed by its root key, and beside it
the holder's own part, which nobody signs:

    "own": {"clients": ["<key ids of clients that I believe>"], "require": ["<claims that I insist on>"],
            "client_keys": [{"key_id", "since_leaf", "until_leaf"}]}   # where a client's key has a beginning or an end

The root key's fingerprint is the one thing to get by another way (paper, phone, a person). A house whose root key
was rotated shows the acts by which each named the next: who keeps an earlier fingerprint is led to the present key.
"""

import hmac
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from jobs.client.shape import find_fault
from receipts.canonical import NotCanonical, decode, encode, unb64url
from receipts.checkpoint import COSIGNATURE_V1, NoteBroken, Vkey, make_vkey, parse_vkey
from receipts.keyacts import ROTATED, KeyActRefused, check_act, read_act
from receipts.keys import ROLES, SignatureBroken, verify_text
from receipts.keys import fingerprint as fingerprint

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
YOUNGER: Final = "forged, or younger than the trust file, then fetch it anew with `tallystick trust add`"
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

    @property
    def span(self) -> str:
        """Say for a person which leaves it counts for."""
        if self.until_leaf is None:
            return f"from leaf {self.since_leaf} on"
        if self.until_leaf <= self.since_leaf:
            return "for no leaf"
        return f"from leaf {self.since_leaf} to {self.until_leaf - 1}"


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
    roots: tuple[str, ...]  # every root key that led to the present one, which is the last
    clients: frozenset[str]
    client_keys: tuple[TrustedKey, ...]
    document: Mapping[str, Any]

    def holding(self, role: str) -> tuple[TrustedKey, ...]:
        """Give the keys of a role, in their order in the file; of clients, those that the holder believes."""
        if role == "client":
            return self.client_keys
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


def add_own(
    document: Mapping[str, Any],
    *,
    clients: Iterable[str],
    require: Iterable[str] = (),
    client_keys: Iterable[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """Put the holder's own part beside what the house published; `client_keys` say for which leaves a client counts."""
    own: dict[str, Any] = {"clients": sorted(set(clients))}
    if wanted := list(require):
        own["require"] = wanted
    if spans := [dict(item) for item in client_keys]:
        own["client_keys"] = spans
    return {**{name: item for name, item in document.items() if name != "own"}, "own": own}


def require_root(trust: Trust, wanted: str) -> None:
    """Insist that `wanted` names the root key: its fingerprint (SHA-256 in hex, `sha256:` before it or not) or its id.

    An earlier root key will do where it named the next, and so on to the present one.

    Raises: NotATrustFile.
    """
    known = {name for root in trust.roots for name in (root, fingerprint(root))}
    given = wanted.strip().removeprefix("sha256:")
    if not any(hmac.compare_digest(given.encode(), item.encode()) for item in known):
        raise NotATrustFile("signature", f"signed by the root key {fingerprint(trust.root)}, {given[:70]} is expected")


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
    clients = frozenset(own.get("clients", []))
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
        roots=_roots(value.get("successors", []), root),
        clients=clients,
        client_keys=_client_keys(clients, own.get("client_keys", [])),
        document=value,
    )


def _roots(successors: list[dict[str, Any]], present: str) -> tuple[str, ...]:
    """Follow the acts by which each root key named the next, each signed by both, to the present one."""
    roots: list[str] = []
    for index, item in enumerate(successors):
        where = f"successors[{index}]"
        try:
            before = read_act(item["claim"]).replaces
            act = check_act(item["claim"], item["signatures"], roots=[before])
        except KeyActRefused as error:
            raise NotATrustFile(where, str(error)) from None
        if (act.act, act.role) != (ROTATED, "root") or (roots and roots[-1] != act.replaces):
            raise NotATrustFile(where, "does not lead on from the root key before it")
        roots += [act.key_id] if roots else [act.replaces, act.key_id]
    if roots and roots[-1] != present:
        raise NotATrustFile("successors", f"lead to the root key {roots[-1]}, the file is signed by {present}")
    return tuple(roots) or (present,)


def _client_keys(clients: frozenset[str], spans: list[dict[str, Any]]) -> tuple[TrustedKey, ...]:
    told = {item["key_id"]: item for item in spans}
    if unknown := told.keys() - clients:
        raise NotATrustFile("own.client_keys", f"{min(unknown)} is none of own.clients")
    return tuple(
        TrustedKey(
            "client",
            "Ed25519",
            key_id,
            told.get(key_id, {}).get("since_leaf", 0),
            told.get(key_id, {}).get("until_leaf"),
        )
        for key_id in sorted(clients)
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
_SIGNATURE: Final = _fixed({"alg": _TEXT, "key_id": _KEY_ID, "sig": _TEXT})
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
        "successors": _list(
            _fixed({"claim": {"type": "string", "maxLength": 12_000}, "signatures": _list(_SIGNATURE, 1, 3)}), most=64
        ),
        "own": _fixed(
            {"clients": _list(_KEY_ID)},
            {
                "require": _list(_CLAIM),
                "client_keys": _list(_fixed({"key_id": _KEY_ID}, {"since_leaf": _NATURAL, "until_leaf": _NATURAL})),
            },
        ),
    },
)
