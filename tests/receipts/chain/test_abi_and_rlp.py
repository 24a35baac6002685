"""Calldata, events and raw transactions are read by hand as eth_abi and eth_account write them."""

from collections.abc import Callable

import pytest
from eth_abi.abi import encode as eth_abi_encode
from eth_account import Account
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak
from hypothesis import given, settings
from hypothesis import strategies as st

from receipts.chain import abi, rlp
from receipts.committers.erc7053 import (
    COMMIT_TOPIC,
    NotCalldata,
    NotRlp,
    commit_topics,
    decode_commit,
    decode_commit_data,
    decode_raw_transaction,
    encode_commit,
)
from receipts.keys import Secp256k1Signer

TEXTS = st.text(st.characters(codec="utf-8"), max_size=200)
KEY = b"\x22" * 32


def transaction(**changes: object) -> dict[str, object]:
    """Make an EIP-1559 transaction's fields, with some changed."""
    return {
        "type": 2,
        "chainId": 31337,
        "nonce": 7,
        "maxPriorityFeePerGas": 10**9,
        "maxFeePerGas": 3 * 10**9,
        "gas": 60_000,
        "to": to_checksum_address("0x" + "ee" * 20),
        "value": 0,
        "data": encode_commit("bafkrei", "{}"),
    } | changes


def signed(**changes: object) -> bytes:
    """Sign those fields with eth_account."""
    return bytes(Account.sign_transaction(transaction(**changes), KEY).raw_transaction)


@given(TEXTS, TEXTS)
@settings(max_examples=100, deadline=None)
def test_a_commit_is_encoded_as_eth_abi_does_and_read_back(cid: str, data: str) -> None:
    calldata = encode_commit(cid, data)
    assert calldata == keccak(text="commit(string,string)")[:4] + eth_abi_encode(["string", "string"], [cid, data])
    assert decode_commit(calldata) == (cid, data)


@given(TEXTS)
@settings(max_examples=50, deadline=None)
def test_an_events_data_is_read_back(data: str) -> None:
    assert decode_commit_data(eth_abi_encode(["string"], [data])) == data


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: b"\x00" + data[1:],
        lambda data: data[:-1],
        lambda data: data + bytes(32),
        lambda data: data[:-1] + b"\x01",
        lambda data: data[:4] + data[36:68] + data[4:36] + data[68:],
        lambda data: data[:4] + b"\xff" * 32 + data[36:],
        lambda data: data[:99] + b"\xff" + data[100:],
        lambda data: data[:100] + b"\xff" + data[101:],
        lambda data: b"",
    ],
)
def test_another_spelling_of_a_commit_is_refused(spoil: Callable[[bytes], bytes]) -> None:
    with pytest.raises(NotCalldata):
        decode_commit(spoil(encode_commit("bafkrei", "{}")))


def test_an_events_data_with_bytes_after_its_end_is_refused() -> None:
    with pytest.raises(NotCalldata):
        decode_commit_data(eth_abi_encode(["string"], ["{}"]) + bytes(32))


def test_the_commit_topic_is_that_of_erc_7053() -> None:
    assert keccak(text="Commit(address,string,string)").hex() == COMMIT_TOPIC[2:]
    topics = commit_topics(asset_cid="bafkrei", recorder="0x" + "ee" * 20)
    assert topics == [COMMIT_TOPIC, "0x" + "00" * 12 + "ee" * 20, "0x" + keccak(text="bafkrei").hex()]
    assert commit_topics(asset_cid="bafkrei")[1] is None


@given(nonce=st.integers(0, 2**63), tip=st.integers(0, 2**90), data=st.binary(max_size=300), create=st.booleans())
@settings(max_examples=40, deadline=None)
def test_eth_account_signs_the_same_transaction(nonce: int, tip: int, data: bytes, create: bool) -> None:
    to = "" if create else "0x" + "0e" * 20
    fees = {"max_priority_fee": tip, "max_fee": 2 * tip}
    ours = rlp.sign_transaction(
        Secp256k1Signer(KEY), chain_id=31337, nonce=nonce, gas_limit=60_000, to=to, value=0, data=data, **fees
    )
    theirs = signed(
        nonce=nonce,
        maxFeePerGas=2 * tip,
        maxPriorityFeePerGas=tip,
        data=data,
        to=to and to_checksum_address(to),
    )
    assert ours == theirs


@given(
    nonce=st.integers(0, 2**64 - 2),
    fee=st.integers(0, 2**128),
    gas=st.integers(21_000, 2**40),
    value=st.integers(0, 2**90),
    data=st.binary(max_size=300),
    create=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_a_transaction_signed_by_eth_account_is_read_whole(
    nonce: int, fee: int, gas: int, value: int, data: bytes, create: bool
) -> None:
    to = "" if create else to_checksum_address("0x" + "0e" * 20)
    made = Account.sign_transaction(
        transaction(nonce=nonce, maxFeePerGas=fee, maxPriorityFeePerGas=fee, gas=gas, value=value, data=data, to=to),
        KEY,
    )
    found = decode_raw_transaction(bytes(made.raw_transaction))
    assert found.sender == Account.from_key(KEY).address.lower()
    assert found.hash == made.hash.to_0x_hex()
    assert (found.chain_id, found.nonce, found.gas_limit, found.value, found.data) == (31337, nonce, gas, value, data)
    assert (found.max_fee, found.max_priority_fee, found.to) == (fee, fee, to.lower())


def test_every_changed_byte_of_a_transaction_is_refused_or_seen() -> None:
    """No byte is decorative: a change is refused, or shows as another sender, meaning or hash."""
    raw = signed()
    whole = decode_raw_transaction(raw)
    for place in range(len(raw)):
        changed = raw[:place] + bytes([raw[place] ^ 0x01]) + raw[place + 1 :]
        try:
            found = decode_raw_transaction(changed)
        except NotRlp:
            continue
        assert found.sender != whole.sender
        assert found.hash != whole.hash


LEGACY = bytes(
    Account.sign_transaction(
        {"chainId": 31337, "nonce": 7, "gasPrice": 10**9, "gas": 21_000, "to": transaction()["to"], "value": 0}, KEY
    ).raw_transaction
)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\x02",
        b"\x02\xc0",
        signed()[:-1],
        signed() + b"\x00",
        b"\x01" + signed()[1:],
        b"\x02" + b"\xc1" * 50,
        b"\x02\xff" + b"\xff" * 8,
        b"\x02\xf8\x00",
        b"\x02" + bytes(200_000),
        signed(accessList=[{"address": to_checksum_address("0x" + "ee" * 20), "storageKeys": []}]),
        LEGACY,
    ],
)
def test_what_is_no_eip_1559_transaction_of_ours_is_refused(raw: bytes) -> None:
    with pytest.raises(NotRlp):
        decode_raw_transaction(raw)


@given(st.binary(max_size=200))
@settings(max_examples=300, deadline=None)
def test_rlp_has_one_spelling(data: bytes) -> None:
    try:
        item = rlp.decode(data)
    except NotRlp:
        return
    assert rlp.encode(item) == data


def test_the_address_of_a_new_contract_is_known_beforehand() -> None:
    """Source: the first contracts of anvil's first account."""
    deployer = "0xf39fd6e51aad88f6f4ce6ab8827279cfffb92266"
    assert rlp.created_address(deployer, 0) == "0x5fbdb2315678afecb367f032d93f642f64180aa3"
    assert rlp.created_address(deployer, 1) == "0xe7f1725e7734ce288f8367e1bb143e90bb3f0512"


@given(st.lists(st.binary(min_size=20, max_size=20), max_size=5), st.lists(st.binary(max_size=70), max_size=5))
@settings(max_examples=60, deadline=None)
def test_arrays_are_encoded_as_eth_abi_does(owners: list[bytes], blobs: list[bytes]) -> None:
    ours = abi.arguments(
        abi.uint(5),
        abi.array([abi.address("0x" + owner.hex()) for owner in owners]),
        abi.array([abi.dynamic_bytes(blob) for blob in blobs]),
    )
    theirs = eth_abi_encode(["uint256", "address[]", "bytes[]"], [5, ["0x" + o.hex() for o in owners], blobs])
    assert ours == theirs
