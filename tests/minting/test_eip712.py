"""What an attester signs is what wallets, other libraries and the contract hash."""

from typing import Any

import pytest
from eth_account import Account
from eth_account.messages import encode_typed_data
from hypothesis import given, settings
from hypothesis import strategies as st

from minting.eip712 import (
    Authorization,
    Domain,
    MintAuthorization,
    SplitAuthorization,
    digest,
    sign_authorization,
    verify_authorization,
)
from receipts.canonical import b64url, unb64url
from receipts.keys import Secp256k1Signer, SignatureBroken

ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
SIGNER = Secp256k1Signer(b"\x11" * 32)
DOMAIN = Domain(chain_id=31337, verifying_contract="0x" + "ee" * 20)
ONE = MintAuthorization(provider="0x" + "b0" * 20, units=10**18, receipt_hash="0x" + "ab" * 32, deadline=1_800_000_000)

UINTS = st.integers(0, 2**256 - 1)
ADDRESSES = st.binary(min_size=20, max_size=20).map(lambda raw: "0x" + raw.hex())
HASHES = st.binary(min_size=32, max_size=32).map(lambda raw: "0x" + raw.hex())
DOMAINS = st.builds(Domain, chain_id=UINTS, verifying_contract=ADDRESSES)
SHARES = st.lists(st.tuples(ADDRESSES, UINTS), max_size=5)


def typed_data(domain: Domain, authorization: Authorization) -> dict[str, Any]:
    """Write the authorization as wallets take it (eth_signTypedData_v4)."""
    split = isinstance(authorization, SplitAuthorization)
    many = "[]" if split else ""
    who = "providers" if split else "provider"
    return {
        "domain": {
            "name": domain.name,
            "version": domain.version,
            "chainId": domain.chain_id,
            "verifyingContract": domain.verifying_contract,
        },
        "primaryType": type(authorization).__name__,
        "types": {
            "EIP712Domain": [
                {"name": "name", "type": "string"},
                {"name": "version", "type": "string"},
                {"name": "chainId", "type": "uint256"},
                {"name": "verifyingContract", "type": "address"},
            ],
            type(authorization).__name__: [
                {"name": who, "type": f"address{many}"},
                {"name": "units", "type": f"uint256{many}"},
                {"name": "receiptHash", "type": "bytes32"},
                {"name": "deadline", "type": "uint256"},
            ],
        },
        "message": {
            who: list(authorization.providers)
            if isinstance(authorization, SplitAuthorization)
            else authorization.provider,
            "units": list(authorization.units)
            if isinstance(authorization, SplitAuthorization)
            else authorization.units,
            "receiptHash": bytes.fromhex(authorization.receipt_hash[2:]),
            "deadline": authorization.deadline,
        },
    }


def theirs(domain: Domain, authorization: Authorization) -> bytes:
    """Sign with eth_account."""
    message = encode_typed_data(full_message=typed_data(domain, authorization))
    return bytes(Account.sign_message(message, b"\x11" * 32).signature)


@given(DOMAINS, st.builds(MintAuthorization, provider=ADDRESSES, units=UINTS, receipt_hash=HASHES, deadline=UINTS))
@settings(max_examples=60, deadline=None)
def test_eth_account_signs_the_same_bytes(domain: Domain, authorization: MintAuthorization) -> None:
    ours = sign_authorization(SIGNER, domain, authorization)
    assert unb64url(ours["sig"]) == theirs(domain, authorization)
    assert verify_authorization(domain, authorization, ours) == SIGNER.address


@given(DOMAINS, SHARES, HASHES, UINTS)
@settings(max_examples=60, deadline=None)
def test_eth_account_signs_the_same_bytes_for_a_split(
    domain: Domain, shares: list[tuple[str, int]], receipt_hash: str, deadline: int
) -> None:
    authorization = SplitAuthorization([who for who, _ in shares], [n for _, n in shares], receipt_hash, deadline)
    ours = sign_authorization(SIGNER, domain, authorization)
    assert unb64url(ours["sig"]) == theirs(domain, authorization)
    assert verify_authorization(domain, authorization, ours) == SIGNER.address


@pytest.mark.parametrize(
    "other",
    [
        (Domain(31338, DOMAIN.verifying_contract), ONE),
        (Domain(31337, "0x" + "ef" * 20), ONE),
        (Domain(31337, DOMAIN.verifying_contract, version="2"), ONE),
        (DOMAIN, MintAuthorization("0x" + "b1" * 20, ONE.units, ONE.receipt_hash, ONE.deadline)),
        (DOMAIN, MintAuthorization(ONE.provider, ONE.units + 1, ONE.receipt_hash, ONE.deadline)),
        (DOMAIN, MintAuthorization(ONE.provider, ONE.units, "0x" + "ac" * 32, ONE.deadline)),
        (DOMAIN, MintAuthorization(ONE.provider, ONE.units, ONE.receipt_hash, ONE.deadline + 1)),
        (DOMAIN, SplitAuthorization([ONE.provider], [ONE.units], ONE.receipt_hash, ONE.deadline)),
    ],
)
def test_a_signature_is_good_for_nothing_else(other: tuple[Domain, Authorization]) -> None:
    signature = sign_authorization(SIGNER, DOMAIN, ONE)
    assert digest(*other) != digest(DOMAIN, ONE)
    with pytest.raises(SignatureBroken):
        verify_authorization(*other, signature)


def test_the_high_s_twin_of_a_signature_is_refused() -> None:
    signature = sign_authorization(SIGNER, DOMAIN, ONE)
    raw = unb64url(signature["sig"])
    twin = raw[:32] + (ORDER - int.from_bytes(raw[32:64])).to_bytes(32) + bytes([55 - raw[64]])
    assert Account._recover_hash(digest(DOMAIN, ONE), signature=twin).lower() == SIGNER.address
    with pytest.raises(SignatureBroken, match="high"):
        verify_authorization(DOMAIN, ONE, {**signature, "sig": b64url(twin)})


@pytest.mark.parametrize(
    "change",
    [
        {"alg": "Ed25519"},
        {"key_id": "0x" + "00" * 20},
        {"key_id": SIGNER.address.upper()},
        {"sig": ""},
        {"sig": "A" * 87},
        {"sig": 7},
        {"more": "x"},
    ],
)
def test_a_changed_signature_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(SignatureBroken):
        verify_authorization(DOMAIN, ONE, {**sign_authorization(SIGNER, DOMAIN, ONE), **change})


def test_an_amount_that_no_uint_can_hold_is_refused() -> None:
    signature = sign_authorization(SIGNER, DOMAIN, ONE)
    for units in (-1, 2**256):
        beyond = MintAuthorization(ONE.provider, units, ONE.receipt_hash, ONE.deadline)
        with pytest.raises(SignatureBroken):
            verify_authorization(DOMAIN, beyond, signature)
