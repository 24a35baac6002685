"""Encode and decode what a contract is called with: the few types that our contracts use. Pure.

By hand, because the verifier must read calldata without web3, and a hundred lines can be read whole.
Reading alone is lenient about padding and order: who decodes a call re-encodes it and compares the bytes.

Source: Contract ABI Specification (Solidity), "Formal Specification of the Encoding".
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from receipts.keys import keccak256

WORD: Final = 32
_MAX_UINT: Final = 2**256 - 1


class NotCalldata(ValueError):
    """These bytes or values are not what the ABI asks for: `rule`."""

    def __init__(self, rule: str) -> None:
        super().__init__(rule)
        self.rule = rule


@dataclass(frozen=True, slots=True)
class Dynamic:
    """An encoded argument that stands in the tail, with only its offset in the head."""

    tail: bytes


Argument = bytes | Dynamic


def selector(signature: str) -> bytes:
    """Give the 4 bytes that name a function, from `name(type,type)`."""
    return keccak256(signature.encode("ascii"))[:4]


def uint(value: int) -> bytes:
    """Encode a uint256."""
    if not 0 <= value <= _MAX_UINT:
        raise NotCalldata("a uint256 lies between 0 and 2^256-1")
    return value.to_bytes(WORD)


def address(value: str) -> bytes:
    """Encode an address, `0x` and 40 hex digits in any case."""
    if len(value) != 42 or not value.startswith("0x"):
        raise NotCalldata("an address is 0x and 40 hex digits")
    return bytes(12) + _hex(value)


def bytes32(value: str | bytes) -> bytes:
    """Encode a bytes32, raw or as `0x` and 64 hex digits."""
    raw = _hex(value) if isinstance(value, str) else value
    if len(raw) != WORD:
        raise NotCalldata("a bytes32 has 32 bytes")
    return raw


def dynamic_bytes(value: bytes) -> Dynamic:
    """Encode `bytes`: the length, then the bytes padded to whole words."""
    return Dynamic(uint(len(value)) + value + bytes(-len(value) % WORD))


def string(value: str) -> Dynamic:
    """Encode `string`, as its UTF-8 bytes."""
    return dynamic_bytes(value.encode())


def array(items: Sequence[Argument]) -> Dynamic:
    """Encode a dynamic array of already encoded items."""
    return Dynamic(uint(len(items)) + arguments(*items))


def arguments(*items: Argument) -> bytes:
    """Lay out arguments: a head of words and offsets, then the tails."""
    head, tails = b"", b""
    size = WORD * len(items)
    for item in items:
        if isinstance(item, Dynamic):
            head += uint(size + len(tails))
            tails += item.tail
        else:
            head += item
    return head + tails


def call(signature: str, *items: Argument) -> bytes:
    """Encode a whole call."""
    return selector(signature) + arguments(*items)


def word_at(data: bytes, place: int) -> bytes:
    """Read 32 bytes."""
    found = data[place : place + WORD]
    if len(found) != WORD:
        raise NotCalldata("ends too early")
    return found


def uint_at(data: bytes, place: int) -> int:
    """Read a uint256."""
    return int.from_bytes(word_at(data, place))


def address_at(data: bytes, place: int) -> str:
    """Read an address, lower-case."""
    raw = word_at(data, place)
    if any(raw[:12]):
        raise NotCalldata("an address has 12 zero bytes before it")
    return "0x" + raw[12:].hex()


def bytes_at(data: bytes, place: int, *, base: int = 0) -> bytes:
    """Read `bytes` through the offset that stands at `place`, counted from `base`."""
    start = base + uint_at(data, place)
    size = uint_at(data, start)
    found = data[start + WORD : start + WORD + size]
    if len(found) != size:
        raise NotCalldata("is shorter than it says")
    return found


def string_at(data: bytes, place: int) -> str:
    """Read `string` through the offset that stands at `place`."""
    try:
        return bytes_at(data, place).decode("utf-8")
    except UnicodeDecodeError:
        raise NotCalldata("is not UTF-8") from None


def words_at(data: bytes, place: int) -> list[int]:
    """Give the places of the items of an array of words, through the offset that stands at `place`."""
    start = uint_at(data, place)
    count = uint_at(data, start)
    if count > len(data) // WORD:
        raise NotCalldata("has fewer items than it says")
    return [start + WORD * (index + 1) for index in range(count)]


def _hex(value: str) -> bytes:
    try:
        return bytes.fromhex(value.removeprefix("0x"))
    except ValueError:
        raise NotCalldata("is not hexadecimal") from None
