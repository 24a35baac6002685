"""Write and read what a log asks of a witness. Pure.

    old <size>
    <base64 of 32 bytes>        the consistency proof from there, a hash a line
                                an empty line
    <the signed checkpoint>

Source: C2SP tlog-witness (https://c2sp.org/tlog-witness), add-checkpoint.
"""

import base64
import binascii
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from receipts.checkpoint import Checkpoint, NoteBroken, SignedNote, parse_checkpoint, parse_note
from receipts.merkle import HASH_SIZE

MAX_BYTES: Final = 64 * 1024
MAX_PROOF: Final = 63
SIZE_TYPE: Final = "text/x.tlog.size"
_OLD: Final = re.compile(r"old (0|[1-9][0-9]{0,18})")
_SIZE: Final = re.compile(rb"(0|[1-9][0-9]{0,18})\n")


class RequestMalformed(ValueError):
    """This asks a witness nothing that it could answer: the rule that `str()` tells is broken."""


@dataclass(frozen=True, slots=True)
class AddCheckpoint:
    """A request: the size that the witness should know, the proof from there, and the checkpoint to cosign."""

    old: int
    proof: tuple[bytes, ...]
    text: str  # the signed note, as it came
    note: SignedNote
    checkpoint: Checkpoint


def write_request(old: int, proof: Sequence[bytes], note: str) -> bytes:
    """Ask to cosign a signed checkpoint that goes on from the `old` size."""
    lines = "".join(f"{base64.b64encode(item).decode()}\n" for item in proof)
    return f"old {old}\n{lines}\n{note}".encode()


def read_request(body: bytes) -> AddCheckpoint:
    """Read a request, strictly. Raises: RequestMalformed."""
    if len(body) > MAX_BYTES:
        raise RequestMalformed(f"a request has at most {MAX_BYTES} bytes")
    try:
        text = body.decode()
    except UnicodeDecodeError:
        raise RequestMalformed("a request is UTF-8") from None
    head, gap, note_text = text.partition("\n\n")
    if not gap:
        raise RequestMalformed("an empty line parts the proof from the checkpoint")
    first, *hashes = head.split("\n")
    told = _OLD.fullmatch(first)
    if told is None:
        raise RequestMalformed(f"the first line is `old` and a size, not {first[:30]!r}")
    if len(hashes) > MAX_PROOF:
        raise RequestMalformed(f"a proof has at most {MAX_PROOF} hashes")
    proof = tuple(_hash(index, line) for index, line in enumerate(hashes, start=1))
    try:
        note = parse_note(note_text)
        checkpoint = parse_checkpoint(note.text, extended=True)
    except NoteBroken as error:
        raise RequestMalformed(str(error)) from None
    old = int(told[1])
    if old > checkpoint.size:
        raise RequestMalformed(f"the old size {old} is larger than the checkpoint's, {checkpoint.size}")
    return AddCheckpoint(old, proof, note_text, note, checkpoint)


def read_size(body: bytes) -> int:
    """Read the size that a witness names when it knows another. Raises: RequestMalformed."""
    told = _SIZE.fullmatch(body)
    if told is None:
        raise RequestMalformed(f"a size and a newline are due, not {body[:30]!r}")
    return int(told[1])


def _hash(index: int, line: str) -> bytes:
    try:
        data = base64.b64decode(line, validate=True)
    except (binascii.Error, ValueError):
        raise RequestMalformed(f"hash {index} of the proof is not base64") from None
    if len(data) != HASH_SIZE or base64.b64encode(data).decode() != line:
        raise RequestMalformed(f"hash {index} of the proof is not the base64 of {HASH_SIZE} bytes in its one spelling")
    return data
