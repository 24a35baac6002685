"""The register says who committed what on which asset, and costs what was promised."""

from collections.abc import Iterator

import pytest

from receipts.canonical import encode
from receipts.committers.erc7053 import commit_topics, decode_commit_data, encode_commit
from receipts.committers.evm import find_commits
from tests.contracts.bench import ADA, MALLORY, REGISTER, Bench, Deployed, gas, running_bench

pytestmark = pytest.mark.chain
ANCHOR_GAS = 30_470
COMMIT_64_GAS = 26_840
COMMIT_300_GAS = 32_804
DEPLOY_GAS = 111_255
NID = "bafkreic6rsmqeid27lvxcicdbrmfurc7ehussmqidvslzgpybzeslpfqai"


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    with running_bench() as running:
        yield running


@pytest.fixture
def register(bench: Bench) -> Iterator[Deployed]:
    with bench.undone():
        yield bench.deploy(REGISTER)


def test_a_commit_is_an_event_with_recorder_asset_and_data(register: Deployed) -> None:
    receipt = register.send(ADA, "commit", NID, '{"size":1}')
    [log] = receipt["logs"]
    assert log["topics"] == commit_topics(asset_cid=NID, recorder=ADA)
    assert decode_commit_data(bytes.fromhex(log["data"][2:])) == '{"size":1}'
    [event] = register.events(receipt, "Commit")
    assert (event["recorder"].lower(), event["commitData"]) == (ADA, '{"size":1}')


def test_our_calldata_is_what_the_register_understands(register: Deployed, bench: Bench) -> None:
    receipt = bench.send(ADA, register.address, "0x" + encode_commit(NID, "ünï").hex(), register.artifact)
    assert [event["commitData"] for event in register.events(receipt, "Commit")] == ["ünï"]


def test_commits_are_found_by_asset_and_recorder_oldest_first(register: Deployed, bench: Bench) -> None:
    for who, cid, data in [(ADA, NID, "1"), (MALLORY, NID, "forged"), (ADA, "other", "2"), (ADA, NID, "3")]:
        register.send(who, "commit", cid, data)
    rpc = bench.node.rpc()
    found = find_commits(rpc, register=register.address, asset_cid=NID, recorder=ADA)
    assert [commit.commit_data for commit in found] == ["1", "3"]
    assert {commit.recorder for commit in found} == {ADA}
    anyone = find_commits(rpc, register=register.address, asset_cid=NID)
    assert [commit.commit_data for commit in anyone] == ["1", "forged", "3"]


def test_an_anchor_costs_less_than_35000_gas(register: Deployed) -> None:
    """What an anchor carries: size, root, the checkpoint's CID and the log's NID."""
    data = encode({"cid": NID, "log": NID, "root": "A" * 43, "size": 123456}).decode()
    assert len(data) == 204
    first, later = (gas(register.send(ADA, "commit", NID, data)) for _ in range(2))
    assert first == later == ANCHOR_GAS < 35_000
    assert gas(register.send(ADA, "commit", NID, "x" * 64)) == COMMIT_64_GAS
    assert gas(register.send(ADA, "commit", NID, "x" * 300)) == COMMIT_300_GAS


def test_the_register_keeps_no_storage(register: Deployed, bench: Bench) -> None:
    register.send(ADA, "commit", NID, "x")
    assert bench.node.ask("eth_getStorageAt", register.address, "0x0", "latest") == "0x" + "00" * 32
    assert [item["type"] for item in register.artifact.abi] == ["event", "function"]
    assert register.gas == DEPLOY_GAS
