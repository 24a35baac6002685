"""Straight to the chain: the house's own sender commits on the register, and what it says can be checked by anyone."""

import hashlib
import json

import pytest

from receipts.chain import sender
from receipts.committers import numbers
from receipts.models import ChainTransaction, NumbersOrder
from tests.receipts.numbers.conftest import MAINNET, House

pytestmark = pytest.mark.chain


@pytest.fixture
def chain_house(house: House) -> House:
    """Let the house send by itself: its chain is the network's, which this test's node plays."""
    house.settings.NUMBERS_COMMIT = "chain"
    house.settings.CHAIN_RPC_URL, house.settings.CHAIN_ID = house.service.node.url, MAINNET
    house.settings.CONFIRMATIONS = 2
    house.settings.CHAIN_FEE_CAP_GWEI = 500
    house.service.node.fund(house.signer.address)
    return house


def until_landed(house: House) -> None:
    for _ in range(12):
        house.turn()
        sender.turn(rpc=house.service.node.rpc())
        house.service.node.mine()
        if not numbers.unsettled(NumbersOrder.objects.all()).exists() and NumbersOrder.objects.exists():
            return
    raise AssertionError(house.told())


def test_a_job_is_committed_by_our_own_transactions_and_nothing_is_asked_of_the_service(chain_house: House) -> None:
    chain_house.job("JobScheduled", "JobCompleted")
    until_landed(chain_house)
    orders = list(NumbersOrder.objects.order_by("id"))
    assert {order.door for order in orders} == {"chain"}
    assert [order.verdict for order in orders] == ["holds"] * 3, chain_house.told()
    assert [order.tx_hash for order in orders] == list(
        ChainTransaction.objects.order_by("nonce").values_list("hash", flat=True)
    )
    commits = chain_house.service.commits(orders[0].asset)
    assert {commit["recorder"] for commit in commits} == {chain_house.signer.address}
    assert chain_house.service.requests == []


def test_the_tree_that_a_commit_points_to_is_kept_and_fits_its_digest(chain_house: House) -> None:
    [told] = chain_house.job()
    until_landed(chain_house)
    order = chain_house.order(told)
    [commit] = chain_house.service.commits(order.asset)
    tree = bytes(order.file)
    assert commit["assetTreeSha256"] == hashlib.sha256(tree).hexdigest()
    assert commit["assetTreeCid"] == order.asset_tree_cid
    assert json.loads(tree)["custom"]["tallystick"]["statement"] == order.statement


def test_a_transaction_that_lands_after_a_crash_is_not_sent_again(chain_house: House) -> None:
    chain_house.job("JobScheduled")
    chain_house.turn()
    assert ChainTransaction.objects.count() == 1
    numbers.turn()  # as after a crash: the wish is a row of the same transaction as the order's move
    until_landed(chain_house)
    assert chain_house.service.count() == 2
    assert ChainTransaction.objects.count() == 2


def test_another_chain_than_the_networks_is_refused(chain_house: House) -> None:
    chain_house.settings.CHAIN_ID = 31337
    chain_house.job()
    assert chain_house.turn().waiting_reason == "mainnet is chain 10507, the house sends to chain 31337"
    assert ChainTransaction.objects.count() == 0


def test_who_has_no_funds_waits_and_loses_nothing(chain_house: House) -> None:
    chain_house.service.node.fund(chain_house.signer.address, 0)
    chain_house.job()
    chain_house.turn()
    assert "no funds" in sender.turn(rpc=chain_house.service.node.rpc()).waiting_reason
    assert chain_house.states() == ["sent"]
    chain_house.service.node.fund(chain_house.signer.address)
    until_landed(chain_house)
    assert chain_house.states() == ["landed"]
