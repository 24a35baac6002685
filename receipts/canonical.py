"""Turn values into the bytes that are hashed, and bytes from outside into values, strictly.

What was hashed is what was stored: these bytes are kept and compared as bytes, never re-serialised.

Source: RFC 8785 (JSON Canonicalization Scheme), narrowed: no floats, no integer beyond 2^53-1, NFC
text only. NID: CIDv1, raw codec (0x55), sha2-256 multihash, base32 lower-case.
"""

import base64
import binascii
import datetime as dt
import hashlib
import json
import re
import unicodedata
from typing import Any, Final, NewType

import rfc8785

Nid = NewType("Nid", str)

MAX_RECEIPT_BYTES: Final = 16 * 1024
MAX_DEPTH: Final = 16
MAX_SAFE_INTEGER: Final = 2**53 - 1
_CID_PREFIX: Final = b"\x01\x55\x12\x20"
_BOM: Final = b"\xef\xbb\xbf"
_STRING: Final = re.compile(r'"(?:[^"\\]|\\.)*"?', re.DOTALL)
_NO_BRACKETS: Final = re.compile(r"[^\[\]{}]+")
# Six characters and two bits of the prefix, 256 bits of digest, and two bits that must be nought at the end.
_NID: Final = re.compile(r"\Abafkrei[a-h][a-z2-7]{50}[aeimquy4]\Z")
_BASE32: Final = "abcdefghijklmnopqrstuvwxyz234567"
_TWO_OF_BASE32: Final = [first + second for first in _BASE32 for second in _BASE32]
_PLAIN: Final = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"))
_TIME: Final = re.compile(r"\A\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{3}Z\Z")


class NotCanonical(ValueError):
    """These bytes or this value can't be canonical JSON: `rule`, broken at `where`."""

    def __init__(self, where: str, rule: str) -> None:
        # `where` may come from outside: half a surrogate can't be printed, an escape sequence must not be.
        self.where = "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in where)
        self.rule = rule
        super().__init__(f"{self.where}: {rule}")


def encode(value: Any) -> bytes:
    """Encode `value` as canonical JSON.

    Raises: NotCanonical, for a float, an unsafe integer, a lone surrogate or text that is not NFC.
    Source: RFC 8785 §3.2.
    """
    if _is_plain(value, 0):
        return _PLAIN.encode(value).encode("ascii")
    _check(value, "$", 0)
    return rfc8785.dumps(value)


def decode(data: bytes, *, max_bytes: int = MAX_RECEIPT_BYTES, max_depth: int = MAX_DEPTH) -> Any:
    """Read JSON from outside and refuse everything that two readers could read in two ways.

    Raises: NotCanonical, for duplicate keys, floats, NaN, unsafe integers, a byte order mark, text
    that is not UTF-8 or not NFC, more than `max_bytes` bytes or more than `max_depth` levels.
    """
    if len(data) > max_bytes:
        raise NotCanonical("$", f"{len(data)} bytes, at most {max_bytes} are read")
    if data.startswith(_BOM):
        raise NotCanonical("$", "starts with a byte order mark")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise NotCanonical("$", f"not UTF-8 at byte {error.start}") from None
    if nesting(text) > max_depth:
        raise NotCanonical("$", f"nested deeper than {max_depth} levels")
    try:
        value = json.loads(
            text, object_pairs_hook=_unique, parse_float=_no_float, parse_constant=_no_float, parse_int=_safe_int
        )
    except json.JSONDecodeError as error:
        raise NotCanonical("$", f"not JSON at character {error.pos}") from None
    _check(value, "$", 0, max_depth)
    return value


def decode_canonical(data: bytes, *, max_bytes: int = MAX_RECEIPT_BYTES) -> Any:
    """Read bytes that must already be in canonical form.

    Raises: NotCanonical, also when re-encoding gives other bytes.
    """
    plain = _decode_plain(data, max_bytes)
    if plain is not None:
        return plain
    value = decode(data, max_bytes=max_bytes)
    if rfc8785.dumps(value) != data:
        raise NotCanonical("$", "not in canonical form (RFC 8785)")
    return value


def nid(data: bytes) -> Nid:
    """Name bytes by their content: the CIDv1 that Numbers Protocol uses too (`bafkrei…`, 59 characters)."""
    return nid_of_digest(hashlib.sha256(data).digest())


def nid_of_digest(digest: bytes) -> Nid:
    """Name the bytes whose SHA-256 is `digest` (32 bytes)."""
    if len(digest) != 32:
        raise NotCanonical("digest", f"{len(digest)} bytes, a SHA-256 digest has 32")
    # Base32 by tens of bits: the library's goes through bytes, and takes three times as long.
    bits = int.from_bytes(digest) << 2
    return Nid("bafkrei" + "".join([_TWO_OF_BASE32[bits >> shift & 1023] for shift in range(250, -1, -10)]))


def nid_digest(name: str) -> bytes:
    """Give the SHA-256 digest (32 bytes) inside a NID.

    Raises: NotCanonical, when `name` is not a CIDv1 of raw bytes in its one spelling.
    """
    if len(name) == 59 and name[0] == "b" and name.isascii():
        try:
            raw = base64.b32decode(name[1:].upper() + "======")
        except binascii.Error:
            raise NotCanonical("nid", "not base32") from None
        if raw[:4] == _CID_PREFIX and nid_of_digest(raw[4:]) == name:
            return raw[4:]
    raise NotCanonical("nid", "not a CIDv1 of raw bytes with sha2-256")


def is_nid(name: str) -> bool:
    """Tell whether `name` is a NID in its one spelling, without computing what it names."""
    return _NID.match(name) is not None


def b64url(data: bytes) -> str:
    """Write bytes as base64url without padding (RFC 4648 §5)."""
    return base64.urlsafe_b64encode(data).decode("ascii").rstrip("=")


def unb64url(text: str, *, size: int | None = None) -> bytes:
    """Read unpadded base64url in its one spelling; `size` is the number of bytes it must give.

    Raises: NotCanonical.
    """
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise NotCanonical("base64url", "holds characters outside the alphabet") from None
    if b64url(data) != text:
        raise NotCanonical("base64url", "padded, or not in its shortest spelling")
    if size is not None and len(data) != size:
        raise NotCanonical("base64url", f"{len(data)} bytes where {size} are due")
    return data


def field_digest(name: str, value: Any, salt: bytes) -> str:
    """Commit to one private field: base64url(SHA-256(salt ‖ RFC 8785 of [name, value])), salt of 16 bytes."""
    if len(salt) != 16:
        raise NotCanonical("salt", f"{len(salt)} bytes where 16 are due")
    return b64url(hashlib.sha256(salt + encode([name, value])).digest())


def utc(moment: dt.datetime) -> str:
    """Write an aware time as receipts do: UTC, milliseconds, `Z`."""
    if moment.tzinfo is None:
        raise NotCanonical("time", "has no time zone")
    return moment.astimezone(dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def read_utc(text: str) -> dt.datetime:
    """Read a time in the one form that receipts use.

    Raises: NotCanonical.
    """
    if not _TIME.match(text):
        raise NotCanonical("time", "not of the form 2026-11-21T07:00:52.310Z")
    try:
        return dt.datetime.fromisoformat(text)
    except ValueError:
        raise NotCanonical("time", "no such moment") from None


def _decode_plain(data: bytes, max_bytes: int) -> Any:
    """Read canonical JSON of ASCII alone, in a tenth of the time; None for what must go the long way.

    That Python's sorted, compact form gives the same bytes again shows all at once: no key stands twice, no number
    has a second spelling, no escape hides another character. (Of ASCII alone it is the canonical form.)
    """
    if len(data) > max_bytes or not data.isascii():
        return None
    if data.count(b"{") + data.count(b"[") > MAX_DEPTH and nesting(data.decode("ascii")) > MAX_DEPTH:
        return None
    text = data.decode("ascii")
    try:
        value = _STRICT.decode(text)
    except ValueError:
        return None
    return value if _PLAIN.encode(value) == text else None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise NotCanonical(twice[:40], "the key stands twice in one object")
    return found


def _no_float(text: str) -> Any:
    raise NotCanonical(text[:40], "only integers are hashed; carry decimals as text")


def _safe_int(text: str) -> int:
    # The length goes first: int() of a million digits would take seconds.
    if len(text) > 17 or abs(int(text)) > MAX_SAFE_INTEGER:
        raise NotCanonical(text[:40], "integers beyond 2^53-1 are carried as decimal text")
    if text == "-0":
        raise NotCanonical("-0", "minus zero has no canonical form")
    return int(text)


_STRICT: Final = json.JSONDecoder(parse_float=_no_float, parse_constant=_no_float, parse_int=_safe_int)


def nesting(text: str) -> int:
    """Give the depth of JSON text before a parser recurses; brackets inside strings don't count, in either direction.

    A parser's own guard is the interpreter's recursion limit, which a library may have raised beyond the C stack.
    """
    deepest = depth = 0
    for character in _NO_BRACKETS.sub("", _STRING.sub("", text)):
        if character in "[{":
            depth += 1
            deepest = max(deepest, depth)
        else:
            depth -= 1
    return deepest


def _is_plain(value: Any, depth: int) -> bool:
    """Tell whether a value holds ASCII text, safe integers, booleans and nulls alone, keys included.

    Of such values Python's sorted, compact JSON is the canonical form, in a tenth of the time.
    """
    kind = type(value)
    if kind is str:
        return bool(value.isascii())
    if kind is int:
        return bool(-MAX_SAFE_INTEGER <= value <= MAX_SAFE_INTEGER)
    if kind is dict:
        return depth < MAX_DEPTH and all(
            type(key) is str and key.isascii() and _is_plain(item, depth + 1) for key, item in value.items()
        )
    if kind is list or kind is tuple:
        return depth < MAX_DEPTH and all(_is_plain(item, depth + 1) for item in value)
    return value is None or kind is bool


def _check(value: Any, where: str, depth: int, max_depth: int = MAX_DEPTH) -> None:
    if depth >= max_depth and isinstance(value, dict | list | tuple):
        raise NotCanonical(where, f"nested deeper than {max_depth} levels")
    if isinstance(value, str):
        if not value.isascii():
            _check_text(value, where)
    elif isinstance(value, bool) or value is None:
        return
    elif isinstance(value, int):
        if abs(value) > MAX_SAFE_INTEGER:
            raise NotCanonical(where, "integers beyond 2^53-1 are carried as decimal text")
    elif isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise NotCanonical(where, "keys are text")
            _check_text(key, where)
            _check(item, f"{where}.{key[:40]}", depth + 1, max_depth)
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            _check(item, f"{where}[{index}]", depth + 1, max_depth)
    else:
        raise NotCanonical(where, f"a {type(value).__name__} can't be hashed; carry decimals as text")


def _check_text(text: str, where: str) -> None:
    if any(0xD800 <= ord(character) <= 0xDFFF for character in text):
        raise NotCanonical(where, "holds half of a surrogate pair")
    if not unicodedata.is_normalized("NFC", text):
        raise NotCanonical(where, "text is not in Unicode normal form C")
