"""Write and read the lines of an export: what leaves the house for an auditor's hands. Pure.

    receipts.jsonl   {"bytes": "<a receipt's exact text>", "leaf": 17, "nid": "bafkrei…"}
                     {"eventType": "JobStarted", "leaf": 18, "nid": "bafkrei…", "withheld": "redacted"}
    proofs.jsonl     {"checkpoint": "<the log's signed note>"}                      its first line
                     {"leaf": 17, "proof": ["<base64 of 32 bytes>", …]}             one for each receipt, in order
    log/             checkpoint and tile/…, as C2SP tlog-tiles lays them out       instead of proofs.jsonl

Lines are canonical JSON and stand by ascending leaf, so that a reader needs the memory of one line. A receipt is
withheld when it is private and the export was asked to redact (`redacted`), or when its bytes are no longer there
(`erased`): its leaf, NID and type stay, and are still held against the log. Bytes that are no text, which no
receipt of this house is, stand as `base64` in place of `bytes`, so that a changed row can be shown as it is.
"""

import base64
import binascii
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

from receipts.canonical import MAX_RECEIPT_BYTES, NotCanonical, decode_canonical, encode, is_nid
from receipts.merkle import HASH_SIZE, Hash

RECEIPTS: Final = "receipts.jsonl"
PROOFS: Final = "proofs.jsonl"
LOG: Final = "log"
MAX_LINE_BYTES: Final = 8 * MAX_RECEIPT_BYTES  # a receipt inside a string: each quote and backslash is written twice
_MAX_PROOF: Final = 64

Withheld = Literal["redacted", "erased"]


class LineBroken(ValueError):
    """A line of an export is not what it should be: `field` breaks `rule`."""

    def __init__(self, field: str, rule: str) -> None:
        super().__init__(f"{field}: {rule}" if field != "$" else rule)
        self.field = field
        self.rule = rule


@dataclass(frozen=True, slots=True)
class Line:
    """One receipt of an export: its bytes, or why they are withheld and of which type they were."""

    leaf: int
    nid: str
    body: bytes | None
    event_type: str = ""
    withheld: Withheld | None = None


@dataclass(frozen=True, slots=True)
class ProofLine:
    """The path from one receipt's leaf to the root of the checkpoint that the file begins with."""

    leaf: int
    proof: tuple[Hash, ...]


def write_line(line: Line) -> bytes:
    """Write one receipt's line, with its newline."""
    value: dict[str, Any] = {"leaf": line.leaf, "nid": line.nid}
    if line.body is None:
        value |= {"eventType": line.event_type, "withheld": line.withheld}
    else:
        try:
            return encode({**value, "bytes": line.body.decode()}) + b"\n"
        except ValueError:  # not UTF-8, or text that has no canonical form
            value["base64"] = base64.b64encode(line.body).decode()
    return encode(value) + b"\n"


def read_line(raw: bytes) -> Line:
    """Read one receipt's line. What its bytes say is not looked at. Raises: LineBroken."""
    value = _object(raw)
    leaf, name = _leaf(value), value.get("nid")
    if not isinstance(name, str) or not is_nid(name):
        raise LineBroken("nid", "not a CIDv1 of raw bytes with sha2-256")
    if value.keys() == {"leaf", "nid", "bytes"} and isinstance(value["bytes"], str):
        return Line(leaf, name, value["bytes"].encode())
    if value.keys() == {"leaf", "nid", "base64"} and isinstance(value["base64"], str):
        return Line(leaf, name, _unbase64("base64", value["base64"]))
    if value.keys() == {"leaf", "nid", "eventType", "withheld"}:
        if value["withheld"] not in get_args(Withheld):
            raise LineBroken("withheld", f"is one of {', '.join(get_args(Withheld))}")
        if not isinstance(value["eventType"], str) or len(value["eventType"]) > 40:
            raise LineBroken("eventType", "is a type of event")
        return Line(leaf, name, None, value["eventType"], value["withheld"])
    raise LineBroken("$", "a line has leaf, nid and bytes, or leaf, nid, eventType and withheld")


def write_checkpoint_line(note: str) -> bytes:
    """Write the first line of the proofs: the signed checkpoint that all of them lead to."""
    return encode({"checkpoint": note}) + b"\n"


def read_checkpoint_line(raw: bytes) -> str:
    """Read the first line of the proofs; the signature is not looked at. Raises: LineBroken."""
    value = _object(raw)
    if value.keys() != {"checkpoint"} or not isinstance(value["checkpoint"], str):
        raise LineBroken("checkpoint", "the first line holds the checkpoint as text, and nothing else")
    return value["checkpoint"]


def write_proof_line(line: ProofLine) -> bytes:
    """Write one receipt's path."""
    return encode({"leaf": line.leaf, "proof": [base64.b64encode(item).decode() for item in line.proof]}) + b"\n"


def read_proof_line(raw: bytes) -> ProofLine:
    """Read one receipt's path. Raises: LineBroken."""
    value = _object(raw)
    leaf, proof = _leaf(value), value.get("proof")
    if value.keys() != {"leaf", "proof"} or not isinstance(proof, list) or len(proof) > _MAX_PROOF:
        raise LineBroken("proof", f"a line has leaf and proof, a list of at most {_MAX_PROOF} hashes")
    hashes = []
    for index, item in enumerate(proof):
        where = f"proof[{index}]"
        found = _unbase64(where, item) if isinstance(item, str) else b""
        if len(found) != HASH_SIZE:
            raise LineBroken(where, f"is {HASH_SIZE} bytes in base64")
        hashes.append(found)
    return ProofLine(leaf, tuple(hashes))


def _object(raw: bytes) -> dict[str, Any]:
    try:
        value = decode_canonical(raw.removesuffix(b"\n"), max_bytes=MAX_LINE_BYTES)
    except NotCanonical as error:
        raise LineBroken(error.where, error.rule) from None
    if not isinstance(value, dict):
        raise LineBroken("$", "a line is one JSON object")
    return value


def _leaf(value: dict[str, Any]) -> int:
    leaf = value.get("leaf")
    if not isinstance(leaf, int) or isinstance(leaf, bool) or leaf < 0:
        raise LineBroken("leaf", "is a whole number from 0 on")
    return leaf


def _unbase64(where: str, text: str) -> bytes:
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise LineBroken(where, "is not base64") from None
    if base64.b64encode(data).decode() != text:
        raise LineBroken(where, "is not base64 in its one spelling")
    return data
