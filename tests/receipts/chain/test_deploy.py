"""Contracts are put on the chain once, also when the house dies in between."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.utils import timezone

from minting.deploy import deploy_tokens
from receipts.chain.client import Rpc
from receipts.chain.deploy import (
    REGISTER_ARTIFACT,
    NotDeployed,
    deploy_register,
    intend_deployment,
    load_artifact,
    require_cancun,
    require_code,
)
from receipts.committers.evm import EvmCommitter, find_commits, renew_replaced
from receipts.models import ChainTransaction, Checkpoint, Commit
from tests.receipts.chain.conftest import House
from tests.receipts.chain.node import Faults, lying_proxy

pytestmark = pytest.mark.chain
ATTESTER = "0x" + "a7" * 20


@pytest.fixture
def busy(house: House) -> Iterator[Rpc]:
    """Give a chain that makes a block whenever somebody looks at its head."""

    def tick(method: str, params: list[Any]) -> None:
        if method == "eth_getBlockByNumber" and params[0] == "latest":
            house.node.mine()

    with lying_proxy(house.node, Faults(deny=tick)) as rpc:
        yield rpc


def test_the_register_is_deployed_once(house: House, busy: Rpc) -> None:
    told: list[str] = []
    address = deploy_register(progress=told.append, rpc=busy)
    assert deploy_register(rpc=busy) == address
    assert house.states() == ["final"]
    assert told[-1] == "deploy:31337:CommitRegister: final"
    assert ChainTransaction.objects.get().contract_address == address


def test_a_deployment_that_was_interrupted_goes_on(house: House, busy: Rpc) -> None:
    intend_deployment(load_artifact(REGISTER_ARTIFACT), [])
    house.turn()
    address = deploy_register(rpc=busy)
    assert require_code(busy, load_artifact(REGISTER_ARTIFACT), address) == address
    assert house.node.nonce(house.sender.address) == 1


def test_token_and_minter_stand_and_the_minter_may_mint(house: House, busy: Rpc) -> None:
    token, minter = deploy_tokens(attesters=[ATTESTER], threshold=1, rpc=busy)
    assert deploy_tokens(attesters=[ATTESTER], threshold=1, rpc=busy) == (token, minter)
    assert house.states() == ["final"] * 3
    role = load_artifact_role()
    asked = "0x91d14854" + role.hex() + minter[2:].rjust(64, "0")  # hasRole(bytes32,address)
    assert int(house.node.ask("eth_call", {"to": token, "data": asked}, "latest"), 16) == 1


def load_artifact_role() -> bytes:
    """Hash the minter's role with a library of another make."""
    from web3 import Web3

    return bytes(Web3.keccak(text="MINTER_ROLE"))


def test_other_code_at_the_address_is_refused(house: House) -> None:
    with pytest.raises(NotDeployed, match="0 bytes"):
        require_code(house.rpc, load_artifact(REGISTER_ARTIFACT), "0x" + "12" * 20)
    house.node.ask("anvil_setCode", "0x" + "12" * 20, "0x" + "60" * len(load_artifact(REGISTER_ARTIFACT).deployed))
    with pytest.raises(NotDeployed, match="not CommitRegister"):
        require_code(house.rpc, load_artifact(REGISTER_ARTIFACT), "0x" + "12" * 20)


def test_a_chain_older_than_cancun_is_refused_before_it_burns_gas(house: House) -> None:
    require_cancun(house.rpc)

    def no_mcopy(method: str, params: list[Any]) -> Any:
        return {"error": {"code": -32000, "message": "invalid opcode: opcode 0x5e"}} if method == "eth_call" else None

    with lying_proxy(house.node, Faults(deny=no_mcopy)) as rpc, pytest.raises(NotDeployed, match="older than Cancun"):
        deploy_register(rpc=rpc)
    assert house.states() == []


def test_without_funds_the_deployment_says_why_it_waits(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("receipts.chain.deploy.DEADLINE_SECONDS", 0.0)
    house.node.fund(house.sender.address, 0)
    with pytest.raises(NotDeployed, match="no funds"):
        deploy_register(rpc=house.rpc)


def test_a_commit_goes_to_the_register_and_is_found_again(house: House, busy: Rpc) -> None:
    register = deploy_register(rpc=busy)
    committer = EvmCommitter(register)
    wish = committer.commit(asset_cid="bafkrei", commit_data='{"size":1}', key="anchor:1")
    assert committer.commit(asset_cid="bafkrei", commit_data='{"size":1}', key="anchor:1").pk == wish.pk
    house.until(house.all_final)
    wish.refresh_from_db()
    [found] = committer.find(asset_cid="bafkrei", recorder=house.sender.address)
    assert (found.commit_data, found.tx_hash, found.block_number) == ('{"size":1}', wish.hash, wish.block_number)
    assert find_commits(house.rpc, register=register, asset_cid="bafkrei", recorder=ATTESTER) == []


def test_an_anchor_whose_nonce_a_stranger_took_is_wished_anew(house: House) -> None:
    committer = EvmCommitter("0x" + "12" * 20)
    wish = committer.commit(asset_cid="bafkrei", commit_data="{}", key="anchor:1")
    checkpoint = Checkpoint.objects.create(size=1, root=b"r", note="n", signed_at=timezone.now())
    commit = Commit.objects.create(checkpoint=checkpoint, asset_cid="bafkrei", commit_data="{}", transaction=wish)
    assert renew_replaced() == 0
    ChainTransaction.objects.update(state="replaced")
    assert renew_replaced() == 1
    commit.refresh_from_db()
    assert (commit.transaction.key, commit.transaction.state) == ("anchor:1#2", "intended")
    assert bytes(commit.transaction.data) == bytes(wish.data)
    assert renew_replaced() == 0
