"""Why the queue waits is a word and a sentence, nothing is lost, and a node that lied leaves no gap behind."""

from typing import Any

import pytest
from pytest_django import Settings

from receipts.chain.sender import FILLED_AT_MOST, PAUSED, intend
from receipts.models import ChainTransaction, SenderStatus
from receipts.models.transactions import TransactionState
from tests.receipts.chain.conftest import House
from tests.receipts.chain.node import ETHER, Faults, lying_proxy

pytestmark = pytest.mark.chain


def status() -> tuple[str, str]:
    """Why the one sender waits, as admin and alarms see it."""
    row = SenderStatus.objects.get()
    return row.waiting_for, row.waiting_reason


# --- reasons -------------------------------------------------------------------------------------------


def test_the_wrong_chain_is_said_and_nothing_is_sent(house: House) -> None:
    house.wish()
    with lying_proxy(house.node, Faults(deny=_answer("eth_chainId", "0x1"))) as rpc:
        report = house.turn(rpc)
    assert (report.signed, report.waiting_for) == (0, "wrong-chain")
    assert status() == ("wrong-chain", "wrong chain: the node serves chain 1, 31337 is due")
    house.until(house.all_final)
    assert status() == ("", "")


def test_a_dead_node_is_said(house: House) -> None:
    house.wish()
    with lying_proxy(house.node, Faults(drop_before=1)) as rpc:
        assert house.turn(rpc).waiting_for == "node"
    assert status() == ("node", "the node can't be reached")
    assert house.states() == ["intended"]
    house.until(house.all_final)


def test_an_empty_purse_is_said(house: House) -> None:
    house.wish()
    house.node.fund(house.sender.address, 1_000)
    house.turn()
    assert status()[0] == "no-funds"
    house.node.fund(house.sender.address, ETHER)
    house.until(house.all_final)


def test_the_cap_is_said(house: House, settings: Settings) -> None:
    house.wish()
    settings.CHAIN_FEE_CAP_GWEI = 1
    house.turn()
    assert status()[0] == "fee-cap"
    settings.CHAIN_FEE_CAP_GWEI = 500
    house.until(house.all_final)


def test_a_paused_contract_keeps_back_its_own_intents_alone(house: House) -> None:
    paused = "0x" + "aa" * 20
    stuck = [intend(purpose="mint", key=f"mint-{n}", to=paused, data=b"") for n in range(70)]
    [wish] = house.wish()

    def deny(method: str, params: list[Any]) -> Any:
        if method == "eth_estimateGas" and params[0]["to"] == paused:
            return {"error": {"code": 3, "message": "execution reverted", "data": PAUSED}}
        return None

    with lying_proxy(house.node, Faults(deny=deny)) as rpc:
        house.until(lambda: house.landed(wish) == 1, rpc)
        assert status() == ("paused", f"Mint to {paused}: the contract is paused")
    assert ChainTransaction.objects.filter(pk__in=[row.pk for row in stuck], state="intended").count() == 70
    house.until(house.all_final)
    assert status() == ("", "")


def test_a_key_that_is_away_is_said_of_who_sent_before(
    house: House, monkeypatch: pytest.MonkeyPatch, tmp_path: Any, settings: Settings
) -> None:
    house.turn()
    monkeypatch.delenv("TALLYSTICK_KEY_SENDER")
    settings.KEYS_DIR = tmp_path
    assert house.turn().waiting_for == "no-key"
    assert status()[0] == "no-key"


# --- a count that is too high --------------------------------------------------------------------------


def test_a_count_that_one_answer_tells_too_high_is_not_believed(house: House) -> None:
    [wish] = house.wish()

    def once(method: str, params: list[Any]) -> Any:
        return {"result": "0x28"} if method == "eth_getTransactionCount" and params[1] == "latest" else None

    house.node.mine(5)
    with lying_proxy(house.node, Faults(deny=once)) as rpc:
        for _ in range(3):
            assert house.turn(rpc).waiting_for == "nonce"
    assert status()[1] == "the node counts 40 of our transactions, we 0: believed at 3 confirmations"
    assert house.states() == ["intended"]
    house.until(house.all_final)
    wish.refresh_from_db()
    assert wish.nonce == 0


def test_a_count_that_stays_is_believed_at_its_depth(house: House) -> None:
    """A stranger with our key, or an older database: nonces below are gone for good."""
    house.node.mine(5)
    house.node.ask("anvil_impersonateAccount", house.sender.address)
    for _ in range(3):
        house.node.ask("eth_sendTransaction", {"from": house.sender.address, "to": "0x" + "99" * 20, "value": "0x7"})
    house.node.mine()
    [wish] = house.wish()
    assert house.turn().waiting_for == "nonce"
    assert house.turn(blocks=1).signed == 0
    assert house.turn(blocks=1).signed == 1
    wish.refresh_from_db()
    assert wish.nonce == 3
    house.until(house.all_final)


def test_nonces_that_were_skipped_are_filled_and_what_waited_lands(house: House, settings: Settings) -> None:
    """A node that lied at every height; the truth comes out when nothing lands."""
    wishes = house.wish(3)
    house.node.mine(5)
    with lying_proxy(house.node, Faults(deny=_answer("eth_getTransactionCount", "0x14"))) as rpc:
        assert house.turn(rpc).signed == 3
    assert list(ChainTransaction.objects.order_by("nonce").values_list("nonce", flat=True)) == [20, 21, 22]
    for _ in range(3):
        assert house.turn(blocks=1).filled == 0  # somebody else's transactions may be on their way
    assert house.states() == ["sent"] * 3
    settings.CHAIN_FEE_BUMP_SECONDS = 0
    assert house.turn().filled == 16
    settings.CHAIN_FEE_BUMP_SECONDS = 3600
    house.until(lambda: [house.landed(wish) for wish in wishes] == [1, 1, 1] or _patient(settings))
    house.until(house.all_final)
    assert [house.landed(wish) for wish in wishes] == [1, 1, 1]
    fillers = ChainTransaction.objects.filter(purpose="admin").order_by("nonce")
    assert list(fillers.values_list("nonce", flat=True)) == list(range(20))
    assert house.node.nonce(house.sender.address) == 23


def test_a_node_that_is_behind_makes_no_gap(house: House, settings: Settings) -> None:
    settings.CHAIN_FEE_BUMP_SECONDS = 0
    house.wish(3)
    house.until(house.all_final)
    house.wish(1, "next")
    house.turn()
    with lying_proxy(house.node, Faults(deny=_answer("eth_getTransactionCount", "0x1"))) as rpc:
        assert house.turn(rpc).filled == 0
    house.until(house.all_final)
    assert house.node.nonce(house.sender.address) == 4


def test_a_gap_that_is_no_accident_is_left_to_people(house: House, settings: Settings) -> None:
    settings.CHAIN_FEE_BUMP_SECONDS = 0
    house.wish()
    house.node.mine(5)
    with lying_proxy(house.node, Faults(deny=_answer("eth_getTransactionCount", hex(FILLED_AT_MOST + 1)))) as rpc:
        house.turn(rpc)
    assert house.turn().filled == 0
    assert status() == ("nonce", "nonces 0 to 1000 were skipped: too many to fill, somebody has to look")


def test_a_filler_that_a_stranger_forestalls_is_replaced(house: House, settings: Settings) -> None:
    house.wish()
    house.node.mine(5)
    with lying_proxy(house.node, Faults(deny=_answer("eth_getTransactionCount", "0x1"))) as rpc:
        house.turn(rpc)
    settings.CHAIN_FEE_BUMP_SECONDS = 0
    with lying_proxy(house.node, Faults(deny=_refuse("eth_sendRawTransaction", "txpool is full"))) as rpc:
        assert house.turn(rpc).filled == 1
    settings.CHAIN_FEE_BUMP_SECONDS = 3600
    house.node.ask("anvil_impersonateAccount", house.sender.address)
    call = {"from": house.sender.address, "to": "0x" + "99" * 20, "value": "0x7", "nonce": "0x0"}
    house.node.ask("eth_sendTransaction", call)
    house.node.mine()
    house.until(lambda: house.states() == ["final", "replaced"])
    filler = ChainTransaction.objects.get(purpose="admin")
    assert (filler.state, filler.nonce) == (TransactionState.REPLACED, 0)


def _patient(settings: Settings) -> bool:
    """Fill at once what is left of the gap: no patience from here on."""
    settings.CHAIN_FEE_BUMP_SECONDS = 0
    return False


def _refuse(method: str, message: str) -> Any:
    return lambda asked, params: {"error": {"code": -32000, "message": message}} if asked == method else None


def _answer(method: str, result: Any) -> Any:
    return lambda asked, params: {"result": result} if asked == method else None
