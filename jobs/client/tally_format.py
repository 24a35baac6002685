"""Read and write a tally: the one file that holds all the evidence of one job. Pure.

    {"format": "tallystick-tally/1",
     "job_id": "job_…", "job_nid": "bafkrei…",
     "receipts": [{"bytes": "<a receipt's exact text>", "leaf": 17, "proof": ["<base64 of 32 bytes>", …]}, …],
     "checkpoint": "<the log's signed note>",
     "promise": {"claim": "<exact text>", "sig": {"alg": …, "key_id": …, "sig": …}},
     "anchor": {"raw": "0x<signed transaction>"},            absent until it is on a chain
     "mint": {"raw": "0x<signed transaction>"},              absent until it is on a chain
     "disclosed": [{"name": …, "value": …, "salt": "<base64url of 16 bytes>"}, …],     absent unless its owner chose
     "erasures": [{"bytes": "<a ReceiptErased>", "leaf": …, "proof": […]}, …]}          absent unless bytes were erased

Of a receipt whose bytes were erased stand {"erased": "<its NID>", "type": …, "leaf": …, "proof": […]}.

The job's receipts stand first, by `seq`, then the public ones about it: UsageAttested, TokensMinted.
There is nothing else in it: an unknown field, a second spelling of a number or of base64, a key twice
are refused, so that every value in the file is one that some check reads. A format of a later version
is not refused but unknown: whoever reads it needs a newer verifier.
"""

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from receipts.canonical import NotCanonical, b64url, decode, encode, nid_digest, unb64url
from receipts.keys import Signature
from receipts.merkle import HASH_SIZE

FORMAT: Final = "tallystick-tally/1"
MAX_TALLY_BYTES: Final = 16 * 1024 * 1024
MAX_RECEIPTS: Final = 4096
# The text of a receipt stands inside the tally, and a claim inside the receipt: their brackets count too.
_MAX_DEPTH: Final = 64
_VERSION: Final = re.compile(r"tallystick-tally/([1-9][0-9]{0,8})")
_JOB_ID: Final = re.compile(r"job_[0-9a-hjkmnp-tv-z]{26}")
_HEX: Final = re.compile(r"0x([0-9a-f]{2})+")


class NotATally(ValueError):
    """This is no tally: at `where`, `rule`."""

    def __init__(self, where: str, rule: str) -> None:
        super().__init__(f"{where}: {rule}" if where != "$" else rule)
        self.where = where
        self.rule = rule


class NewerTally(ValueError):
    """A tally of a later format, which this verifier can't judge: `format`."""

    def __init__(self, found: str) -> None:
        super().__init__(f"newer: the format is {found}, this verifier reads {FORMAT}")
        self.format = found


@dataclass(frozen=True, slots=True)
class ErasedName:
    """What the log's entry says of a receipt, which is all that is left of an erased one."""

    nid: str
    event_type: str


@dataclass(frozen=True, slots=True)
class LoggedReceipt:
    """A receipt as it was hashed, its place in the log, and the path from there to the checkpoint's root.

    Where its bytes were erased, `erased` says what the log calls it, and `body` is empty.

    Leaf or proof are None while the log, or the checkpoint, is not that far: in the house's own audit of
    a job that still runs, never in a file.
    """

    body: bytes
    leaf: int | None
    proof: tuple[bytes, ...] | None
    erased: ErasedName | None = None


@dataclass(frozen=True, slots=True)
class Promise:
    """The hub's signed word that the job's first receipt is in the log by a stated time."""

    claim: str
    sig: Signature


@dataclass(frozen=True, slots=True)
class Disclosed:
    """A private input that its owner chose to show, with the salt that proves it."""

    name: str
    value: int | str
    salt: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """All the evidence of one job, read but not yet believed. In a file there is always a checkpoint."""

    job_id: str
    job_nid: str
    receipts: tuple[LoggedReceipt, ...]
    checkpoint: str | None
    promise: Promise
    anchor: bytes | None = None
    mint: bytes | None = None
    disclosed: tuple[Disclosed, ...] = ()
    erasures: tuple[LoggedReceipt, ...] = ()


def write_tally(tally: Tally) -> bytes:
    """Write a tally: canonical JSON and a newline.

    Raises: NotATally, when reading it back would not give the same tally.
    """
    value: dict[str, Any] = {
        "format": FORMAT,
        "job_id": tally.job_id,
        "job_nid": tally.job_nid,
        "receipts": [_written(item) for item in tally.receipts],
        "checkpoint": tally.checkpoint,
        "promise": {"claim": tally.promise.claim, "sig": dict(tally.promise.sig)},
    }
    for name, raw in (("anchor", tally.anchor), ("mint", tally.mint)):
        if raw is not None:
            value[name] = {"raw": f"0x{raw.hex()}"}
    if tally.disclosed:
        value["disclosed"] = [
            {"name": item.name, "value": item.value, "salt": b64url(item.salt)} for item in tally.disclosed
        ]
    if tally.erasures:
        value["erasures"] = [_written(item) for item in tally.erasures]
    data = encode(value) + b"\n"
    if read_tally(data) != tally:
        raise NotATally("$", "does not read back as it was written")
    return data


def _written(item: LoggedReceipt) -> dict[str, Any]:
    what: dict[str, Any] = {"bytes": item.body.decode()}
    if item.erased:
        what = {"erased": item.erased.nid, "type": item.erased.event_type}
    return what | {"leaf": item.leaf, "proof": [base64.b64encode(sibling).decode() for sibling in item.proof or ()]}


def read_tally(data: bytes) -> Tally:
    """Read a tally, strictly.

    Raises: NotATally; NewerTally, for a format of a later version.
    """
    try:
        value = decode(data, max_bytes=MAX_TALLY_BYTES, max_depth=_MAX_DEPTH)
    except NotCanonical as error:
        raise NotATally(error.where, error.rule) from None
    if not isinstance(value, dict) or not isinstance(value.get("format"), str):
        raise NotATally("$", f"a JSON object whose format is {FORMAT} is due")
    _check_format(value["format"])
    _check_names(
        "$",
        value,
        required=frozenset({"format", "job_id", "job_nid", "receipts", "checkpoint", "promise"}),
        optional=frozenset({"anchor", "mint", "disclosed", "erasures"}),
    )
    return Tally(
        job_id=_matching("job_id", value["job_id"], _JOB_ID, "is no job's id"),
        job_nid=_nid("job_nid", value["job_nid"]),
        receipts=_receipts("receipts", value["receipts"]),
        checkpoint=_text("checkpoint", value["checkpoint"]),
        promise=_promise(value["promise"]),
        anchor=_raw("anchor", value["anchor"]) if "anchor" in value else None,
        mint=_raw("mint", value["mint"]) if "mint" in value else None,
        disclosed=_disclosed(value["disclosed"]) if "disclosed" in value else (),
        erasures=_receipts("erasures", value["erasures"]) if "erasures" in value else (),
    )


def _check_format(found: str) -> None:
    if found == FORMAT:
        return
    if _VERSION.fullmatch(found):
        raise NewerTally(found)
    raise NotATally("format", f"is {found[:40]!r}, {FORMAT} is due")


def _receipts(where: str, value: Any) -> tuple[LoggedReceipt, ...]:
    if not isinstance(value, list) or not 1 <= len(value) <= MAX_RECEIPTS:
        raise NotATally(where, f"is a list of 1 to {MAX_RECEIPTS} receipts")
    return tuple(_receipt(f"{where}[{index}]", item) for index, item in enumerate(value))


def _receipt(where: str, value: Any) -> LoggedReceipt:
    gone = isinstance(value, Mapping) and "erased" in value
    _check_names(where, value, required=frozenset({*(("erased", "type") if gone else ("bytes",)), "leaf", "proof"}))
    leaf, proof = value["leaf"], value["proof"]
    if not isinstance(leaf, int) or isinstance(leaf, bool) or leaf < 0:
        raise NotATally(f"{where}.leaf", "is a leaf's index, from 0")
    if not isinstance(proof, list) or len(proof) > 64:
        raise NotATally(f"{where}.proof", "is a list of at most 64 hashes")
    erased = (
        ErasedName(_nid(f"{where}.erased", value["erased"]), _text(f"{where}.type", value["type"])) if gone else None
    )
    return LoggedReceipt(
        b"" if gone else _text(f"{where}.bytes", value["bytes"]).encode(),
        leaf,
        tuple(_hash(f"{where}.proof[{index}]", item) for index, item in enumerate(proof)),
        erased,
    )


def _promise(value: Any) -> Promise:
    _check_names("promise", value, required=frozenset({"claim", "sig"}))
    sig = value["sig"]
    _check_names("promise.sig", sig, required=frozenset({"alg", "key_id", "sig"}))
    texts = {name: _text(f"promise.sig.{name}", item) for name, item in sig.items()}
    return Promise(
        _text("promise.claim", value["claim"]),
        {"alg": texts["alg"], "key_id": texts["key_id"], "sig": texts["sig"]},
    )


def _disclosed(value: Any) -> tuple[Disclosed, ...]:
    if not isinstance(value, list) or not 1 <= len(value) <= 64:
        raise NotATally("disclosed", "is a list of 1 to 64 fields")
    found: list[Disclosed] = []
    for index, item in enumerate(value):
        where = f"disclosed[{index}]"
        _check_names(where, item, required=frozenset({"name", "value", "salt"}))
        name, shown = _text(f"{where}.name", item["name"]), item["value"]
        if not isinstance(shown, int | str) or isinstance(shown, bool):
            raise NotATally(f"{where}.value", "is text or a whole number")
        if any(earlier.name == name for earlier in found):
            raise NotATally(f"{where}.name", "discloses one field a second time")
        try:
            salt = unb64url(_text(f"{where}.salt", item["salt"]), size=16)
        except NotCanonical as error:
            raise NotATally(f"{where}.salt", error.rule) from None
        found.append(Disclosed(name, shown, salt))
    return tuple(found)


def _check_names(where: str, value: Any, *, required: frozenset[str], optional: frozenset[str] = frozenset()) -> None:
    if not isinstance(value, Mapping):
        raise NotATally(where, "is an object")
    for name in sorted(required - value.keys()):
        raise NotATally(_join(where, name), "is missing")
    for name in sorted(value.keys() - required - optional):
        raise NotATally(_join(where, name), f"is no field of {FORMAT}")


def _join(where: str, name: str) -> str:
    return name[:60] if where == "$" else f"{where}.{name[:60]}"


def _text(where: str, value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise NotATally(where, "is text, and not empty")
    return value


def _matching(where: str, value: Any, pattern: re.Pattern[str], rule: str) -> str:
    text = _text(where, value)
    if not pattern.fullmatch(text):
        raise NotATally(where, rule)
    return text


def _nid(where: str, value: Any) -> str:
    text = _text(where, value)
    try:
        nid_digest(text)
    except NotCanonical as error:
        raise NotATally(where, error.rule) from None
    return text


def _raw(where: str, value: Any) -> bytes:
    _check_names(where, value, required=frozenset({"raw"}))
    return bytes.fromhex(_matching(f"{where}.raw", value["raw"], _HEX, "is 0x and lower-case hex digits")[2:])


def _hash(where: str, value: Any) -> bytes:
    try:
        raw = base64.b64decode(_text(where, value), validate=True)
    except (binascii.Error, ValueError):
        raise NotATally(where, "is not base64") from None
    if len(raw) != HASH_SIZE or base64.b64encode(raw).decode() != value:
        raise NotATally(where, f"is not the base64 of {HASH_SIZE} bytes in its one spelling")
    return raw
