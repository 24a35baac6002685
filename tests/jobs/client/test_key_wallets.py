"""An attester may be a contract wallet: only the chain can say whether it signed, as of the mint's block.

Source: ERC-1271. The wallets here are a few instructions of EVM code on a real node.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jobs.client.trust import Trust
from jobs.client.verdicts import Verdict, Word
from jobs.client.verify import verify_tally
from minting.eip712 import Domain, MintAuthorization, digest
from receipts.canonical import b64url, decode_canonical
from tests.jobs.client.house import CHAIN_ID, MINTER, House
from tests.jobs.client.test_verdicts import broken
from tests.receipts.chain.node import Node, running_node

WALLET = "0x" + "1a" * 20
SIGNATURE = b"by two of three owners".ljust(130, b".")
MINTED_IN = 12  # the block that the house's TokensMinted names
MAGIC = "1626ba7e"


def wallet_code(signed: bytes, says: str = MAGIC) -> str:
    """Write a wallet that says one word for one digest, and zero for every other."""
    return "0x" + "600435" + "7f" + signed.hex() + "14" + "63" + says + "60e01b" + "02" + "600052" + "60206000f3"


@pytest.fixture
def attested(folder: Path) -> House:
    """A house whose usage is attested by a wallet alone."""

    def by_wallet(body: dict[str, Any]) -> None:
        body["data"]["attestations"] = [{"alg": "ERC-1271", "key_id": WALLET, "sig": b64url(SIGNATURE)}]
        body["actor"] = f"attester:{WALLET}"

    return House(folder, alter={"UsageAttested": by_wallet}, mint_changes={"signatures": [(WALLET, SIGNATURE)]})


def believing(house: House, **span: int) -> Trust:
    keys = [{**key, "key_id": WALLET, **span} if key["role"] == "attester" else key for key in house.published_keys()]
    return house.trust(keys=keys, attesters={"addresses": [WALLET], "threshold": 1})


def signed_digest(house: House) -> bytes:
    body = next(item.body for item in house.tally.receipts if b'"UsageAttested"' in item.body)
    data = decode_canonical(body)["data"]
    authorization = MintAuthorization(data["provider"], int(data["amount"]), data["receipt_hash"], data["deadline"])
    return digest(Domain(CHAIN_ID, MINTER), authorization)


def verdict(house: House, trust: Trust, url: str | None) -> Verdict:
    return verify_tally(house.file, trust, rpc=url).of("attestation")


def test_offline_a_wallet_s_signature_is_unknown_and_says_what_to_ask(attested: House) -> None:
    report = verify_tally(attested.file, believing(attested))
    assert broken(report) == {}
    assert report.of("attestation").verdict is Word.UNKNOWN
    assert f"{WALLET} is a contract wallet: name a node of the chain with --rpc" in report.of("attestation").detail
    assert report.of("mint").verdict is Word.HOLDS, "the minter asks the wallet itself"


def test_a_wallet_counts_for_its_leaves_as_every_attester_does(attested: House, trust: Trust) -> None:
    found = verdict(attested, believing(attested, until_leaf=2), None)
    assert found.verdict is Word.BROKEN and f"the attester key {WALLET} counts from leaf 0 to 1" in found.detail
    assert "names no such attester key" in verdict(attested, trust, None).detail


def test_a_node_that_can_t_be_asked_leaves_it_unknown(attested: House) -> None:
    assert verdict(attested, believing(attested), "http://127.0.0.1:9/").verdict is Word.UNKNOWN


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    with running_node() as running:
        yield running


@pytest.mark.chain
@pytest.mark.parametrize(
    ("code", "word", "found"),
    [
        (wallet_code, Word.HOLDS, None),
        (lambda signed: wallet_code(signed, "ffffffff"), Word.BROKEN, "0x" + "f" * 8 + "0" * 56),
        (lambda signed: wallet_code(bytes(32)), Word.BROKEN, "0x" + "0" * 64),
        (lambda signed: "0x60006000fd", Word.BROKEN, "reverted"),
        (lambda signed: "0x", Word.BROKEN, "no contract"),
        (lambda signed: "0x" + "63" + MAGIC + "60e01b" + "600052" + "60046000f3", Word.BROKEN, "0x" + MAGIC),
    ],
    ids=["signed", "says no", "another digest", "reverts", "no contract", "too short an answer"],
)
def test_what_the_wallet_says_counts(code: Any, word: Word, found: str | None, attested: House, node: Node) -> None:
    node.ask("anvil_reset")
    node.ask("anvil_setCode", WALLET, code(signed_digest(attested)))
    node.mine(MINTED_IN)
    told = verdict(attested, believing(attested), node.url)
    assert (told.verdict, told.found) == (word, found), told


@pytest.mark.chain
def test_what_the_wallet_said_at_the_mint_counts_though_its_owners_changed(attested: House, node: Node) -> None:
    node.ask("anvil_reset")
    node.ask("anvil_setCode", WALLET, wallet_code(signed_digest(attested)))
    node.mine(MINTED_IN + 1)  # what is set counts for the newest block too
    node.ask("anvil_setCode", WALLET, wallet_code(bytes(32)))
    node.mine(2)
    assert verdict(attested, believing(attested), node.url).verdict is Word.HOLDS


@pytest.mark.chain
def test_a_block_that_the_node_does_not_have_leaves_it_unknown(attested: House, node: Node) -> None:
    node.ask("anvil_reset")
    assert verdict(attested, believing(attested), node.url).verdict is Word.UNKNOWN
