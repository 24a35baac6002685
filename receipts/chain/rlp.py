"""Read and write RLP, and the signed EIP-1559 transactions made of it. Pure: no web3, no network.

Source: Ethereum yellow paper, appendix B (RLP); EIP-2718 and EIP-1559 (transaction type 2).
"""

from dataclasses import dataclass
from typing import Final

from receipts.keys import Secp256k1Signer, SignatureBroken, keccak256, recover_address

Item = bytes | list["Item"]

MAX_TRANSACTION_BYTES: Final = 128 * 1024  # what nodes accept in one transaction
_TYPE_1559: Final = b"\x02"
_MAX_DEPTH: Final = 8


class NotRlp(ValueError):
    """These bytes are not what they should be: `rule`."""

    def __init__(self, rule: str) -> None:
        super().__init__(rule)
        self.rule = rule


@dataclass(frozen=True, slots=True)
class RawTransaction:
    """What a signed EIP-1559 transaction says. `to` is empty where a contract is created; amounts in wei."""

    chain_id: int
    nonce: int
    max_priority_fee: int
    max_fee: int
    gas_limit: int
    to: str
    value: int
    data: bytes
    sender: str
    hash: str


def encode(item: Item) -> bytes:
    """Encode bytes, or a list of items."""
    if isinstance(item, bytes):
        return item if len(item) == 1 and item[0] < 0x80 else _head(len(item), 0x80) + item
    body = b"".join(encode(part) for part in item)
    return _head(len(body), 0xC0) + body


def decode(data: bytes) -> Item:
    """Decode exactly one item, in its shortest form.

    Raises: NotRlp.
    """
    item, end = _decode_at(data, 0, 0)
    if end != len(data):
        raise NotRlp("has bytes after its end")
    return item


def number(value: int) -> bytes:
    """Write an integer as RLP does: big-endian, no leading zero, zero is empty."""
    return value.to_bytes((value.bit_length() + 7) // 8)


def decode_raw_transaction(raw: bytes) -> RawTransaction:
    """Read a signed EIP-1559 transaction and recover who sent it.

    Raises: NotRlp, also for another transaction type, an access list or a signature that recovers to no key.
    """
    if len(raw) > MAX_TRANSACTION_BYTES:
        raise NotRlp(f"{len(raw)} bytes, at most {MAX_TRANSACTION_BYTES} are read")
    if raw[:1] != _TYPE_1559:
        raise NotRlp("is not an EIP-1559 transaction (type 2)")
    fields = decode(raw[1:])
    if not isinstance(fields, list) or len(fields) != 12:
        raise NotRlp("an EIP-1559 transaction has 12 fields")
    if fields[8] != []:
        raise NotRlp("has an access list, ours never do")
    flat = [field for field in fields if isinstance(field, bytes)]
    if len(flat) != 11:
        raise NotRlp("has a list where a value is due")
    chain_id, nonce, tip, fee, gas, to, value, data, parity, r, s = flat
    if len(to) not in (0, 20):
        raise NotRlp("its recipient is no address")
    signature = _number(r, 32).to_bytes(32) + _number(s, 32).to_bytes(32) + bytes([27 + _number(parity, 1)])
    digest = keccak256(_TYPE_1559 + encode(fields[:9]))
    try:
        sender = recover_address(digest, signature)
    except SignatureBroken as error:
        raise NotRlp(str(error)) from None
    return RawTransaction(
        chain_id=_number(chain_id, 8),
        nonce=_number(nonce, 8),
        max_priority_fee=_number(tip, 32),
        max_fee=_number(fee, 32),
        gas_limit=_number(gas, 8),
        to=f"0x{to.hex()}" if to else "",
        value=_number(value, 32),
        data=data,
        sender=sender,
        hash=transaction_hash(raw),
    )


def sign_transaction(
    signer: Secp256k1Signer,
    *,
    chain_id: int,
    nonce: int,
    max_priority_fee: int,
    max_fee: int,
    gas_limit: int,
    to: str,
    value: int,
    data: bytes,
) -> bytes:
    """Sign an EIP-1559 transaction: the raw bytes that are broadcast. `to` is empty to create a contract."""
    body: list[Item] = [
        number(chain_id),
        number(nonce),
        number(max_priority_fee),
        number(max_fee),
        number(gas_limit),
        bytes.fromhex(to.removeprefix("0x")),
        number(value),
        data,
        [],
    ]
    signature = signer.sign_digest(keccak256(_TYPE_1559 + encode(body)))
    r, s, parity = int.from_bytes(signature[:32]), int.from_bytes(signature[32:64]), signature[64] - 27
    return _TYPE_1559 + encode([*body, number(parity), number(r), number(s)])


def transaction_hash(raw: bytes) -> str:
    """Give the hash that a signed transaction is found under."""
    return "0x" + keccak256(raw).hex()


def created_address(sender: str, nonce: int) -> str:
    """Give the lower-case address of the contract that `sender` creates with `nonce`."""
    return "0x" + keccak256(encode([bytes.fromhex(sender.removeprefix("0x")), number(nonce)]))[-20:].hex()


def _head(size: int, base: int) -> bytes:
    if size < 56:
        return bytes([base + size])
    length = number(size)
    return bytes([base + 55 + len(length)]) + length


def _decode_at(data: bytes, place: int, depth: int) -> tuple[Item, int]:
    if depth > _MAX_DEPTH:
        raise NotRlp(f"nested deeper than {_MAX_DEPTH} levels")
    first = _slice(data, place, 1)[0]
    if first < 0x80:
        return data[place : place + 1], place + 1
    if first < 0xC0:
        start, size = _span(data, place, first - 0x80)
        found = _slice(data, start, size)
        if size == 1 and found[0] < 0x80:
            raise NotRlp("a small byte stands for itself")
        return found, start + size
    start, size = _span(data, place, first - 0xC0)
    _slice(data, start, size)
    items: list[Item] = []
    at = start
    while at < start + size:
        item, at = _decode_at(data, at, depth + 1)
        items.append(item)
    if at != start + size:
        raise NotRlp("an item reaches beyond its list")
    return items, at


def _span(data: bytes, place: int, short: int) -> tuple[int, int]:
    """Give where an item's body starts and how long it is."""
    if short < 56:
        return place + 1, short
    length = _slice(data, place + 1, short - 55)
    size = int.from_bytes(length)
    if length[0] == 0 or size < 56:
        raise NotRlp("a length is not in its shortest form")
    return place + 1 + len(length), size


def _slice(data: bytes, start: int, size: int) -> bytes:
    found = data[start : start + size]
    if len(found) != size:
        raise NotRlp("ends too early")
    return found


def _number(raw: bytes, limit: int) -> int:
    if len(raw) > limit:
        raise NotRlp(f"a number has {len(raw)} bytes, at most {limit} fit")
    if raw[:1] == b"\x00":
        raise NotRlp("a number starts with a zero")
    return int.from_bytes(raw)
