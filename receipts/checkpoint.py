"""Write, sign and read checkpoints: the log's signed size and root. Pure.

A witness adds a cosignature: a time, and a signature over that time and the log's own text.

Source: C2SP signed-note (https://c2sp.org/signed-note), tlog-checkpoint (https://c2sp.org/tlog-checkpoint)
and tlog-cosignature (https://c2sp.org/tlog-cosignature), the Ed25519 form.
"""

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass
from typing import Final

from receipts.canonical import Nid, encode, nid
from receipts.curves import ed25519_fits
from receipts.keys import TextSigner
from receipts.merkle import HASH_SIZE

ED25519: Final = b"\x01"
COSIGNATURE_V1: Final = b"\x04"
_NAME: Final = re.compile(r"\A[^\s+\ud800-\udfff]+\Z")  # a name that UTF-8 can write
_SIZE: Final = re.compile(r"\A(0|[1-9][0-9]{0,18})\Z")
_DASH: Final = "\u2014 "
_COSIGNATURE_BYTES: Final = 8 + 64  # a time, big-endian, and an Ed25519 signature
_LATEST: Final = 2**63 - 1  # the last second that tlog-cosignature knows


class NoteBroken(ValueError):
    """A signed note, a verifier key or a checkpoint breaks the rule that `str()` tells."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The log at one size: `root` is the RFC 6962 tree head of the first `size` leaves."""

    origin: str
    size: int
    root: bytes

    def text(self) -> str:
        """The note text that is signed, with its final newline."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"


@dataclass(frozen=True, slots=True)
class Vkey:
    """A verifier key: who may sign, under which name, and how."""

    name: str
    key_hash: bytes
    kind: bytes
    public: bytes

    def __str__(self) -> str:
        return f"{self.name}+{self.key_hash.hex()}+{base64.b64encode(self.kind + self.public).decode()}"


@dataclass(frozen=True, slots=True)
class NoteSignature:
    """One signature line of a note."""

    name: str
    key_hash: bytes
    signature: bytes

    def __str__(self) -> str:
        return f"{_DASH}{self.name} {base64.b64encode(self.key_hash + self.signature).decode()}\n"


@dataclass(frozen=True, slots=True)
class SignedNote:
    """A note's text and its signature lines, not yet checked."""

    text: str
    signatures: tuple[NoteSignature, ...]


def make_vkey(name: str, public: bytes, kind: bytes = ED25519) -> Vkey:
    """Name an Ed25519 public key for notes. Raises: NoteBroken, for a name with blanks or plus signs."""
    if not _NAME.match(name):
        raise NoteBroken(f"a key name has no blanks and no plus sign: {name[:60]!r}")
    return Vkey(name, _key_hash(name, kind, public), kind, public)


def parse_vkey(text: str) -> Vkey:
    """Read `<name>+<hash>+<base64 of type and key>`. Raises: NoteBroken."""
    name, _, rest = text.partition("+")
    hash_hex, _, coded = rest.partition("+")
    raw = _b64(coded, "verifier key")
    if len(raw) != 33 or raw[:1] not in (ED25519, COSIGNATURE_V1):
        raise NoteBroken("a verifier key is one type byte (0x01 or 0x04) and 32 bytes of Ed25519 key")
    made = make_vkey(name, raw[1:], raw[:1])
    if made.key_hash.hex() != hash_hex:
        raise NoteBroken(f"the verifier key's hash is {hash_hex[:16]!r}, {made.key_hash.hex()} is due")
    return made


def log_nid(origin: str, first_vkey: str) -> Nid:
    """Name a log for good: the CID of its identity, whatever keys it signs with later."""
    return nid(encode({"origin": origin, "vkey": first_vkey}))


def sign_note(text: str, name: str, signer: TextSigner, public: bytes) -> str:
    """Sign a note's text (which ends in a newline): text, blank line, signature line."""
    if not text.endswith("\n"):
        raise NoteBroken("a note's text ends in a newline")
    vkey = make_vkey(name, public)
    return f"{text}\n{NoteSignature(name, vkey.key_hash, signer.sign(text.encode()))}"


def parse_note(data: str) -> SignedNote:
    """Split a note into its text and signature lines. Raises: NoteBroken."""
    if len(data) > 1_000_000:
        raise NoteBroken("a note has at most 1,000,000 characters")
    if any((ord(c) < 32 and c != "\n") or 0xD800 <= ord(c) <= 0xDFFF for c in data):
        raise NoteBroken("a note is UTF-8 without control characters")
    text, gap, lines = data.rpartition("\n\n")
    if not gap or not lines.endswith("\n"):
        raise NoteBroken("a note is text, a blank line and signature lines, each ended by a newline")
    return SignedNote(text + "\n", parse_signatures(lines))


def parse_signatures(lines: str) -> tuple[NoteSignature, ...]:
    """Read signature lines, each ended by a newline: at least one. Raises: NoteBroken."""
    if not lines.endswith("\n"):
        raise NoteBroken("each signature line ends in a newline")
    return tuple(_signature_line(line) for line in lines[:-1].split("\n"))


def check_note(note: SignedNote, vkey: Vkey) -> None:
    """Check that `vkey` signed the note. Raises: NoteBroken."""
    if vkey.kind != ED25519:
        raise NoteBroken("a witness signs a timestamp too; its key does not check a plain signature")
    signature = _only_signature(note, vkey)
    if not ed25519_fits(vkey.public, note.text.encode(), signature.signature):
        raise NoteBroken(f"the signature by {vkey.name} does not fit the text")


def cosign(text: str, name: str, signer: TextSigner, public: bytes, *, time_s: int) -> NoteSignature:
    """Sign a checkpoint's text as a witness, at a time in seconds since 1970."""
    if not text.endswith("\n"):
        raise NoteBroken("a note's text ends in a newline")
    vkey = make_vkey(name, public, COSIGNATURE_V1)
    return NoteSignature(name, vkey.key_hash, time_s.to_bytes(8) + signer.sign(_cosigned(text, time_s)))


def check_cosignature(note: SignedNote, vkey: Vkey) -> int:
    """Check that the witness `vkey` cosigned the note; give when, in seconds since 1970. Raises: NoteBroken."""
    if vkey.kind != COSIGNATURE_V1:
        raise NoteBroken("a key that signs no timestamp does not check a cosignature")
    signature = _only_signature(note, vkey).signature
    if len(signature) != _COSIGNATURE_BYTES:
        raise NoteBroken(f"the cosignature of {vkey.name} is not a time and an Ed25519 signature")
    time_s = int.from_bytes(signature[:8])
    if time_s > _LATEST:
        raise NoteBroken(f"the cosignature of {vkey.name} lies beyond all time")
    if not ed25519_fits(vkey.public, _cosigned(note.text, time_s), signature[8:]):
        raise NoteBroken(f"the cosignature of {vkey.name} does not fit the text and time")
    return time_s


def _cosigned(text: str, time_s: int) -> bytes:
    return f"cosignature/v1\ntime {time_s}\n{text}".encode()


def _only_signature(note: SignedNote, vkey: Vkey) -> NoteSignature:
    found = [s for s in note.signatures if s.name == vkey.name and s.key_hash == vkey.key_hash]
    if not found:
        raise NoteBroken(f"not signed by {vkey.name} with key {vkey.key_hash.hex()}")
    if len(found) > 1:
        raise NoteBroken(f"signed twice by {vkey.name} with one key")
    return found[0]


def parse_checkpoint(text: str, *, extended: bool = False) -> Checkpoint:
    """Read a checkpoint's text: origin, size, root.

    Extension lines are refused: ours has none. A witness takes them (`extended`), and signs them with the rest.
    Raises: NoteBroken.
    """
    lines = text.split("\n")
    if len(lines) < 4 or lines[-1] != "" or (len(lines) > 4 and not extended):
        raise NoteBroken("a checkpoint is three lines: origin, size, root")
    if not all(lines[3:-1]):
        raise NoteBroken("an extension line is empty")
    origin, size, coded = lines[:3]
    if not origin:
        raise NoteBroken("the checkpoint's origin is empty")
    if not _SIZE.match(size):
        raise NoteBroken(f"the checkpoint's size is no number: {size[:30]!r}")
    root = _b64(coded, "root")
    if len(root) != HASH_SIZE:
        raise NoteBroken(f"the checkpoint's root has {len(root)} bytes, not {HASH_SIZE}")
    return Checkpoint(origin, int(size), root)


def open_checkpoint(data: str, vkey: Vkey) -> Checkpoint:
    """Read a signed checkpoint and check it against the log's key and origin. Raises: NoteBroken."""
    note = parse_note(data)
    check_note(note, vkey)
    checkpoint = parse_checkpoint(note.text)
    if checkpoint.origin != vkey.name:
        raise NoteBroken(f"the checkpoint is of the log {checkpoint.origin!r}, not {vkey.name!r}")
    return checkpoint


def _signature_line(line: str) -> NoteSignature:
    if not line.startswith(_DASH):
        raise NoteBroken("a signature line starts with an em dash and a blank")
    name, _, coded = line[len(_DASH) :].partition(" ")
    if not _NAME.match(name):
        raise NoteBroken(f"a signature line names no key: {line[:60]!r}")
    raw = _b64(coded, "signature")
    if len(raw) < 5:
        raise NoteBroken("a signature is a 4-byte key hash and at least one byte more")
    return NoteSignature(name, raw[:4], raw[4:])


def _key_hash(name: str, kind: bytes, public: bytes) -> bytes:
    return hashlib.sha256(name.encode() + b"\n" + kind + public).digest()[:4]


def _b64(text: str, what: str) -> bytes:
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise NoteBroken(f"the {what} is not base64") from None
    if base64.b64encode(data).decode() != text:
        raise NoteBroken(f"the {what} is not base64 in its one spelling")
    return data
