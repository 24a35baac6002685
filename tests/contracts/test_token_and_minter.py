"""Tokens come from attested receipts alone, each receipt counts once, and nobody can change that."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest

from minting.calldata import MINTED_TOPIC, RECEIPT_ALREADY_USED, RECEIPT_USED_TOPIC, decode_mint, encode_mint
from minting.eip712 import Domain, MintAuthorization, SplitAuthorization, digest, sign_authorization
from receipts.canonical import unb64url
from receipts.chain import abi
from receipts.keys import Secp256k1Signer
from tests.contracts.bench import (
    ADA,
    BO,
    CY,
    HOUSE,
    MALLORY,
    MINTER,
    TOKEN,
    Bench,
    Deployed,
    Reverted,
    gas,
    running_bench,
)
from tests.receipts.chain.node import CHAIN_ID

pytestmark = pytest.mark.chain
ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
FIRST, SECOND, STRANGER = (Secp256k1Signer(bytes([digit]) * 32) for digit in (1, 2, 9))
HASH = "0x" + "ab" * 32
OTHER_HASH = "0x" + "cd" * 32
NOBODY = "0x" + "00" * 20


@dataclass
class Mint:
    """The token, its minter, and how one asks for a mint."""

    bench: Bench
    token: Deployed
    minter: Deployed

    @property
    def domain(self) -> Domain:
        return Domain(CHAIN_ID, self.minter.address)

    def authorization(self, **changes: Any) -> MintAuthorization:
        """Ask for one token for Bo, within the hour."""
        return replace(MintAuthorization(BO, 10**18, HASH, self.bench.now() + 3600), **changes)

    def signed(self, authorization: Any, *signers: Secp256k1Signer, domain: Domain | None = None) -> Any:
        """Give the signatures of these attesters."""
        return [
            (signer.address, unb64url(sign_authorization(signer, domain or self.domain, authorization)["sig"]))
            for signer in signers
        ]

    def mint(self, authorization: Any, signatures: Any, *, who: str = MALLORY) -> dict[str, Any]:
        """Carry signatures to the minter; anyone may."""
        return self.bench.send(
            who, self.minter.address, "0x" + encode_mint(authorization, signatures).hex(), self.minter.artifact
        )

    def balance(self, who: str) -> int:
        return int(self.token.ask("balanceOf", abi_address(who)))


def abi_address(who: str) -> str:
    """Give an address as web3 takes it."""
    from web3 import Web3

    return Web3.to_checksum_address(who)


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    with running_bench() as running:
        yield running


@pytest.fixture
def mint(bench: Bench) -> Iterator[Mint]:
    with bench.undone():
        token = bench.deploy(TOKEN, abi_address(HOUSE))
        yield Mint(bench, token, new_minter(bench, token, [FIRST], 1))


def new_minter(bench: Bench, token: Deployed, attesters: list[Secp256k1Signer], threshold: int) -> Deployed:
    """Deploy a minter and let it mint."""
    names = [abi_address(attester.address) for attester in attesters]
    minter = bench.deploy(MINTER, abi_address(token.address), abi_address(HOUSE), names, threshold)
    token.send(HOUSE, "grantRole", token.ask("MINTER_ROLE"), abi_address(minter.address))
    return minter


def refused(mint: Mint, *args: Any, **kwargs: Any) -> str:
    """Name the error that a mint is refused with."""
    with pytest.raises(Reverted) as told:
        mint.mint(*args, **kwargs)
    assert mint.token.ask("totalSupply") == 0
    return told.value.error


def test_nothing_is_minted_at_the_start(mint: Mint) -> None:
    assert mint.token.ask("totalSupply") == 0
    assert mint.token.ask("decimals") == 18
    assert (mint.token.ask("name"), mint.token.ask("symbol")) == ("Tallystick Compute", "TALLY")


def test_an_attested_receipt_mints_its_amount_once(mint: Mint) -> None:
    authorization = mint.authorization()
    receipt = mint.mint(authorization, mint.signed(authorization, FIRST))
    assert (mint.balance(BO), mint.token.ask("totalSupply")) == (10**18, 10**18)
    [minted] = mint.minter.events(receipt, "Minted")
    assert (minted["provider"].lower(), minted["units"], minted["receiptHash"].hex()) == (BO, 10**18, HASH[2:])
    [used] = mint.token.events(receipt, "ReceiptUsed")
    assert (used["receiptHash"].hex(), used["minter"].lower(), used["amount"]) == (
        HASH[2:],
        mint.minter.address,
        10**18,
    )
    assert mint.token.ask("usedReceipt", HASH) is mint.minter.ask("usedReceipt", HASH) is True


def test_a_second_mint_of_the_same_receipt_is_refused(mint: Mint) -> None:
    authorization = mint.authorization()
    mint.mint(authorization, mint.signed(authorization, FIRST))
    for again in (authorization, mint.authorization(units=5), mint.authorization(provider=CY)):
        with pytest.raises(Reverted, match="ReceiptAlreadyUsed"):
            mint.mint(again, mint.signed(again, FIRST))
    assert mint.token.ask("totalSupply") == 10**18


def test_a_free_job_mints_nothing_and_uses_its_receipt(mint: Mint) -> None:
    free = mint.authorization(units=0)
    receipt = mint.mint(free, mint.signed(free, FIRST))
    assert [event["units"] for event in mint.minter.events(receipt, "Minted")] == [0]
    assert mint.token.ask("totalSupply") == 0
    with pytest.raises(Reverted, match="ReceiptAlreadyUsed"):
        mint.mint(free, mint.signed(free, FIRST))


def test_a_replacement_minter_cannot_mint_what_was_minted(mint: Mint) -> None:
    authorization = mint.authorization()
    mint.mint(authorization, mint.signed(authorization, FIRST))
    mint.minter = new_minter(mint.bench, mint.token, [FIRST], 1)
    again = mint.authorization()
    assert mint.minter.ask("usedReceipt", HASH) is True
    with pytest.raises(Reverted, match="ReceiptAlreadyUsed"):
        mint.mint(again, mint.signed(again, FIRST))
    fresh = mint.authorization(receipt_hash=OTHER_HASH)
    mint.mint(fresh, mint.signed(fresh, FIRST))
    assert mint.token.ask("totalSupply") == 2 * 10**18


def test_who_is_no_attester_attests_nothing(mint: Mint) -> None:
    authorization = mint.authorization()
    assert refused(mint, authorization, mint.signed(authorization, STRANGER)) == "NotAnAttester"
    [(_, foreign)] = mint.signed(authorization, STRANGER)
    assert refused(mint, authorization, [(FIRST.address, foreign)]) == "BadSignature"
    assert refused(mint, authorization, []) == "TooFewAttesters"


@pytest.mark.parametrize(
    "changes",
    [{"provider": MALLORY}, {"units": 2 * 10**18}, {"receipt_hash": OTHER_HASH}, {"deadline": 2**255}],
    ids=lambda changes: next(iter(changes)),
)
def test_a_signature_is_good_for_what_was_signed_alone(mint: Mint, changes: dict[str, Any]) -> None:
    authorization = mint.authorization()
    signatures = mint.signed(authorization, FIRST)
    assert refused(mint, replace(authorization, **changes), signatures) == "BadSignature"


def test_a_signature_for_another_chain_or_minter_is_refused(mint: Mint) -> None:
    authorization = mint.authorization()
    for domain in (Domain(CHAIN_ID + 1, mint.minter.address), Domain(CHAIN_ID, mint.token.address)):
        assert refused(mint, authorization, mint.signed(authorization, FIRST, domain=domain)) == "BadSignature"


def test_the_high_s_twin_of_a_signature_is_refused(mint: Mint) -> None:
    authorization = mint.authorization()
    [(who, raw)] = mint.signed(authorization, FIRST)
    twin = raw[:32] + (ORDER - int.from_bytes(raw[32:64])).to_bytes(32) + bytes([55 - raw[64]])
    assert refused(mint, authorization, [(who, twin)]) == "BadSignature"
    mint.mint(authorization, [(who, raw)])


def test_a_short_or_empty_signature_is_refused(mint: Mint) -> None:
    authorization = mint.authorization()
    [(who, raw)] = mint.signed(authorization, FIRST)
    for spoiled in (b"", raw[:64], raw + b"\x00", bytes(65)):
        assert refused(mint, authorization, [(who, spoiled)]) == "BadSignature"


def test_after_its_deadline_an_authorization_is_worth_nothing(mint: Mint) -> None:
    authorization = mint.authorization()
    mint.bench.node.ask("evm_setNextBlockTimestamp", authorization.deadline)
    mint.bench.node.mine()
    with mint.bench.undone():
        mint.bench.node.ask("evm_setNextBlockTimestamp", authorization.deadline + 1)
        mint.bench.node.mine()
        assert refused(mint, authorization, mint.signed(authorization, FIRST)) == "DeadlinePassed"


def test_while_paused_nothing_is_minted_and_tokens_still_move(mint: Mint) -> None:
    first = mint.authorization()
    mint.mint(first, mint.signed(first, FIRST))
    second = mint.authorization(receipt_hash=OTHER_HASH)
    for contract in (mint.minter, mint.token):
        contract.send(HOUSE, "pause")
        with pytest.raises(Reverted, match="EnforcedPause"):
            mint.mint(second, mint.signed(second, FIRST))
        mint.token.send(BO, "transfer", abi_address(CY), 1)
        contract.send(HOUSE, "unpause")
    mint.mint(second, mint.signed(second, FIRST))
    assert (mint.balance(CY), mint.token.ask("totalSupply")) == (2, 2 * 10**18)


@pytest.mark.parametrize("who", [MALLORY, BO], ids=["mallory", "bo"])
def test_only_roles_may_change_anything(mint: Mint, who: str) -> None:
    role = mint.token.ask("MINTER_ROLE")
    attempts: list[tuple[Deployed, str, tuple[Any, ...]]] = [
        (mint.token, "mintOnce", (abi_address(who), 1, HASH)),
        (mint.token, "mintOnceSplit", ([abi_address(who)], [1], HASH)),
        (mint.token, "grantRole", (role, abi_address(who))),
        (mint.token, "pause", ()),
        (mint.token, "unpause", ()),
        (mint.minter, "setAttester", (abi_address(who), True)),
        (mint.minter, "setThreshold", (1,)),
        (mint.minter, "grantRole", (b"\x00" * 32, abi_address(who))),
        (mint.minter, "pause", ()),
        (mint.minter, "unpause", ()),
    ]
    for contract, name, args in attempts:
        with pytest.raises(Reverted, match="AccessControlUnauthorizedAccount"):
            contract.send(who, name, *args)


def test_not_even_the_house_mints_without_a_minter(mint: Mint) -> None:
    with pytest.raises(Reverted, match="AccessControlUnauthorizedAccount"):
        mint.token.send(HOUSE, "mintOnce", abi_address(HOUSE), 1, HASH)


def test_a_minter_whose_role_was_taken_mints_nothing(mint: Mint) -> None:
    mint.token.send(HOUSE, "revokeRole", mint.token.ask("MINTER_ROLE"), abi_address(mint.minter.address))
    authorization = mint.authorization()
    assert refused(mint, authorization, mint.signed(authorization, FIRST)) == "AccessControlUnauthorizedAccount"


def test_a_threshold_of_two_needs_two_different_attesters(mint: Mint) -> None:
    receipt = mint.minter.send(HOUSE, "setAttester", abi_address(SECOND.address), True)
    [changed] = mint.minter.events(receipt, "AttesterChanged")
    assert (changed["attester"].lower(), changed["trusted"]) == (SECOND.address, True)
    mint.minter.send(HOUSE, "setThreshold", 2)
    authorization = mint.authorization()
    assert refused(mint, authorization, mint.signed(authorization, FIRST)) == "TooFewAttesters"
    assert refused(mint, authorization, mint.signed(authorization, FIRST, FIRST)) == "AttestersNotAscending"
    assert refused(mint, authorization, mint.signed(authorization, FIRST, STRANGER)) == "NotAnAttester"
    mint.mint(authorization, mint.signed(authorization, SECOND, FIRST))
    assert mint.balance(BO) == 10**18


def test_signatures_out_of_order_or_without_a_name_are_refused(mint: Mint) -> None:
    mint.minter.send(HOUSE, "setAttester", abi_address(SECOND.address), True)
    authorization = mint.authorization()
    ordered = sorted(mint.signed(authorization, FIRST, SECOND), reverse=True)
    args = (abi_address(BO), 10**18, HASH, authorization.deadline)
    names = [abi_address(who) for who, _ in ordered]
    raws = [raw for _, raw in ordered]
    with pytest.raises(Reverted, match="AttestersNotAscending"):
        mint.minter.send(MALLORY, "mintWithReceipt", *args, names, raws)
    with pytest.raises(Reverted, match="SignaturesMismatch"):
        mint.minter.send(MALLORY, "mintWithReceipt", *args, names[::-1], raws[:1])
    mint.minter.send(MALLORY, "mintWithReceipt", *args, names[::-1], raws[::-1])


def test_a_dismissed_attester_attests_nothing_any_more(mint: Mint) -> None:
    mint.minter.send(HOUSE, "setAttester", abi_address(SECOND.address), True)
    mint.minter.send(HOUSE, "setAttester", abi_address(FIRST.address), False)
    authorization = mint.authorization()
    assert refused(mint, authorization, mint.signed(authorization, FIRST)) == "NotAnAttester"
    mint.mint(authorization, mint.signed(authorization, SECOND))


def test_the_threshold_stays_between_one_and_the_number_of_attesters(mint: Mint) -> None:
    for threshold in (0, 2):
        with pytest.raises(Reverted, match="ThresholdOutOfRange"):
            mint.minter.send(HOUSE, "setThreshold", threshold)
    with pytest.raises(Reverted, match="ThresholdOutOfRange"):
        mint.minter.send(HOUSE, "setAttester", abi_address(FIRST.address), False)
    mint.minter.send(HOUSE, "setAttester", abi_address(FIRST.address), True)
    assert mint.minter.ask("attesterCount") == 1
    with pytest.raises(Reverted, match="ThresholdOutOfRange"):
        mint.bench.deploy(MINTER, abi_address(mint.token.address), abi_address(HOUSE), [], 0)


def test_a_wallet_may_attest_by_erc_1271(mint: Mint) -> None:
    """A wallet that answers isValidSignature with the magic value to everything."""
    wallet = "0x" + "77" * 20
    # PUSH4 magic PUSH1 224 SHL PUSH0 MSTORE PUSH1 32 PUSH0 RETURN
    mint.bench.node.ask("anvil_setCode", wallet, "0x631626ba7e60e01b5f5260205ff3")
    authorization = mint.authorization()
    assert refused(mint, authorization, [(wallet, b"any")]) == "NotAnAttester"
    mint.minter.send(HOUSE, "setAttester", abi_address(wallet), True)
    mint.mint(authorization, [(wallet, b"any")])
    mint.bench.node.ask("anvil_setCode", wallet, "0x5f5f5ffd")
    other = mint.authorization(receipt_hash=OTHER_HASH)
    with pytest.raises(Reverted, match="BadSignature"):
        mint.mint(other, [(wallet, b"any")])


def test_a_split_pays_every_provider_or_none(mint: Mint) -> None:
    split = SplitAuthorization([BO, CY], [7, 3], HASH, mint.bench.now() + 3600)
    receipt = mint.mint(split, mint.signed(split, FIRST))
    assert (mint.balance(BO), mint.balance(CY), mint.token.ask("totalSupply")) == (7, 3, 10)
    told = [(event["provider"].lower(), event["units"]) for event in mint.minter.events(receipt, "Minted")]
    assert told == [(BO, 7), (CY, 3)]
    assert [event["amount"] for event in mint.token.events(receipt, "ReceiptUsed")] == [10]
    with pytest.raises(Reverted, match="ReceiptAlreadyUsed"):
        mint.mint(split, mint.signed(split, FIRST))
    whole = mint.authorization()
    with pytest.raises(Reverted, match="ReceiptAlreadyUsed"):
        mint.mint(whole, mint.signed(whole, FIRST))


@pytest.mark.parametrize(
    ("providers", "units", "error"),
    [
        ([BO, CY], [1], "SharesMismatch"),
        ([], [], "SharesMismatch"),
        ([BO, NOBODY], [1, 1], "ERC20InvalidReceiver"),
    ],
)
def test_a_split_that_does_not_add_up_is_refused(
    mint: Mint, providers: list[str], units: list[int], error: str
) -> None:
    split = SplitAuthorization(providers, units, HASH, mint.bench.now() + 3600)
    assert refused(mint, split, mint.signed(split, FIRST)) == error


def test_a_split_beyond_all_numbers_is_refused(mint: Mint) -> None:
    split = SplitAuthorization([BO, CY], [2**256 - 1, 1], HASH, mint.bench.now() + 3600)
    assert "0x4e487b71" in refused(mint, split, mint.signed(split, FIRST))


def test_the_contract_hashes_what_we_sign(mint: Mint) -> None:
    """The domain as the contract tells it (EIP-5267), and the types it was compiled with."""
    assert mint.minter.ask("MINT_TYPEHASH") == typehash(
        "MintAuthorization(address provider,uint256 units,bytes32 receiptHash,uint256 deadline)"
    )
    assert mint.minter.ask("SPLIT_TYPEHASH") == typehash(
        "SplitAuthorization(address[] providers,uint256[] units,bytes32 receiptHash,uint256 deadline)"
    )
    assert len(digest(mint.domain, mint.authorization())) == 32


def typehash(text: str) -> bytes:
    """Hash a type with web3's keccak."""
    from web3 import Web3

    return bytes(Web3.keccak(text=text))


def test_topics_and_errors_are_those_of_the_contracts(mint: Mint) -> None:
    assert mint.minter.codec.events.Minted().topic == MINTED_TOPIC
    assert mint.token.codec.events.ReceiptUsed().topic == RECEIPT_USED_TOPIC
    assert "0x" + abi.selector("ReceiptAlreadyUsed(bytes32)").hex() == RECEIPT_ALREADY_USED


def test_calldata_is_read_back_and_is_what_web3_writes(mint: Mint) -> None:
    authorization = mint.authorization()
    signatures = sorted(mint.signed(authorization, FIRST, SECOND))
    ours = encode_mint(authorization, signatures[::-1])
    theirs = mint.minter.codec.encode_abi(
        "mintWithReceipt",
        args=[
            abi_address(BO),
            10**18,
            HASH,
            authorization.deadline,
            [abi_address(who) for who, _ in signatures],
            [raw for _, raw in signatures],
        ],
    )
    assert "0x" + ours.hex() == theirs
    assert decode_mint(ours) == (authorization, signatures)
    split = SplitAuthorization([BO, CY], [7, 3], HASH, authorization.deadline)
    assert decode_mint(encode_mint(split, signatures)) == (split, signatures)


def test_a_permit_lets_another_spend(mint: Mint) -> None:
    """ERC-2612: Ada signs, anyone may carry it; needed for orders that are settled without custody."""
    owner = FIRST.address
    deadline = mint.bench.now() + 3600
    words = [abi.address(owner), abi.address(CY), abi.uint(5), abi.uint(0), abi.uint(deadline)]
    kind = typehash("Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)")
    separator = Domain(CHAIN_ID, mint.token.address, name="Tallystick Compute").separator()
    assert mint.token.ask("DOMAIN_SEPARATOR") == separator
    raw = FIRST.sign_digest(typehash_of(b"\x19\x01" + separator + typehash_of(kind + b"".join(words))))
    args = (abi_address(owner), abi_address(CY), 5, deadline, raw[64], raw[:32], raw[32:64])
    mint.token.send(ADA, "permit", *args)
    assert mint.token.ask("allowance", abi_address(owner), abi_address(CY)) == 5


def typehash_of(data: bytes) -> bytes:
    """Hash bytes with web3's keccak."""
    from web3 import Web3

    return bytes(Web3.keccak(data))


def test_what_it_costs(mint: Mint) -> None:
    """Exact on Cancun: a change here is a change of the contracts or of the compiler."""

    def signed(authorization: Any, *signers: Secp256k1Signer) -> int:
        return gas(mint.mint(authorization, mint.signed(authorization, *signers)))

    def one(number: int, provider: str) -> MintAuthorization:
        return MintAuthorization(provider, AMOUNT, f"0x{number:02x}" + "11" * 31, FAR)

    signed(one(1, ADA), FIRST)  # the first tokens of all cost more: they start the supply
    figures = {"new holder": signed(one(2, BO), FIRST), "holder": signed(one(3, BO), FIRST)}
    mint.minter.send(HOUSE, "setAttester", abi_address(SECOND.address), True)
    figures["holder, two attesters"] = signed(one(4, BO), FIRST, SECOND)
    split = SplitAuthorization([BO, CY], [AMOUNT] * 2, "0x" + "44" * 32, FAR)
    figures["split of a holder and a new one"] = signed(split, FIRST)
    figures |= {"deploying the token": mint.token.gas, "deploying the minter": mint.minter.gas}
    assert figures == GAS


# Amount and deadline without zero bytes, so that the calldata's price says the usual.
AMOUNT = 0x1111111111111111
FAR = 0x1111111111
GAS = {
    "new holder": 102_042,
    "holder": 84_954,
    "holder, two attesters": 95_553,
    "split of a holder and a new one": 115_591,
    "deploying the token": 1_269_544,
    "deploying the minter": 1_323_754,
}
