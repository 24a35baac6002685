"""What was intended lands once, whatever the chain does in between."""

import hashlib
import random
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from django.db import connection
from pytest_django import Settings

from receipts.chain.client import Rpc
from receipts.chain.rlp import decode_raw_transaction
from receipts.chain.sender import IllegalMove, IntentDiffers, intend, intend_again, move, turn
from receipts.models import ChainTransaction, Receipt, SenderStatus, TransactionHash
from receipts.models.transactions import MOVES, TransactionState
from tests.receipts.chain.conftest import House
from tests.receipts.chain.node import ETHER, Faults, lying_proxy

pytestmark = pytest.mark.chain


def test_an_intent_goes_from_intended_to_final(house: House) -> None:
    [wish] = house.wish()
    assert house.states() == ["intended"]
    assert house.turn().broadcast == 1
    wish.refresh_from_db()
    assert (wish.state, wish.nonce, wish.sender) == ("sent", 0, house.sender.address)
    assert house.turn(blocks=1).mined == 1
    assert house.turn().final == 0  # one confirmation of three
    assert house.turn(blocks=2).final == 1
    wish.refresh_from_db()
    assert wish.gas_used == 21_000
    assert wish.block_time is not None
    assert house.landed(wish) == 1


def test_nothing_is_final_on_the_first_sight_of_its_receipt(house: House) -> None:
    house.wish()
    house.turn()
    assert house.turn(blocks=50).mined == 1
    assert house.states() == ["mined"]
    assert house.turn().final == 1


def test_the_same_key_is_one_transaction_and_other_content_is_refused(house: House) -> None:
    first = intend(purpose="commit", key="k", to="0x" + "aa" * 20, data=b"x", gas_limit=50_000)
    assert intend(purpose="commit", key="k", to="0x" + "AA" * 20, data=b"x", gas_limit=50_000).pk == first.pk
    with pytest.raises(IntentDiffers):
        intend(purpose="commit", key="k", to="0x" + "aa" * 20, data=b"y")
    assert ChainTransaction.objects.count() == 1


def test_bytes_and_hash_are_stored_before_anything_is_sent(house: House) -> None:
    house.wish(3)
    stored: list[int] = []

    def watch(method: str, params: list[Any]) -> None:
        if method == "eth_sendRawTransaction":
            stored.append(int(params[0][:4] == "0x02"))

    with lying_proxy(house.node, Faults(drop_before=0, deny=watch)) as rpc:
        assert house.turn(rpc).broadcast == 3
    assert stored == [1, 1, 1]
    for form in TransactionHash.objects.all():
        assert decode_raw_transaction(bytes(form.raw)).hash == form.hash


def test_a_crash_after_signing_sends_the_same_bytes_later(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.wish(2)

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Rpc, "send_raw", die)
        with pytest.raises(KeyboardInterrupt):
            house.turn()
    signed = sorted(TransactionHash.objects.values_list("hash", flat=True))
    assert house.states() == ["sent", "sent"]
    house.until(house.all_final)
    assert sorted(TransactionHash.objects.values_list("hash", flat=True)) == signed


def test_a_crash_after_sending_sends_no_second_transaction(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    [wish] = house.wish()
    send = Rpc.send_raw

    def send_and_die(self: Rpc, raws: list[bytes]) -> None:
        send(self, raws)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Rpc, "send_raw", send_and_die)
        with pytest.raises(KeyboardInterrupt):
            house.turn()
    house.until(house.all_final)
    assert house.node.nonce(house.sender.address) == 1
    assert house.landed(wish) == 1


def test_at_most_sixteen_are_under_way(house: House) -> None:
    house.wish(40)
    assert house.turn().signed == 16
    assert house.turn().signed == 0
    report = house.turn(blocks=1)
    assert (report.mined, report.signed, report.queued) == (16, 16, 8)
    house.until(house.all_final)
    assert house.node.nonce(house.sender.address) == 40


def test_a_reorg_sends_the_same_bytes_again(house: House) -> None:
    house.wish(3)
    house.turn()
    house.turn(blocks=1)
    assert house.states() == ["mined"] * 3
    hashes = sorted(TransactionHash.objects.values_list("hash", flat=True))
    house.node.ask("anvil_reorg", 1, [])
    report = house.turn()
    assert (report.reorged, report.broadcast) == (3, 3)
    assert house.states() == ["sent"] * 3
    house.until(house.all_final)
    assert sorted(TransactionHash.objects.values_list("hash", flat=True)) == hashes
    assert set(ChainTransaction.objects.values_list("reorgs", flat=True)) == {1}


def test_a_reversal_of_what_was_final_is_an_alarm_and_a_receipt(house: House) -> None:
    [wish] = house.wish()
    house.until(house.all_final)
    wish.refresh_from_db()
    gone = wish.block_hash
    house.node.ask("anvil_reorg", house.node.head(), [])
    report = house.turn()
    assert report.reversed == [wish.pk]
    told = Receipt.objects.get(event_type="ChainReversed")
    assert gone.encode() in bytes(told.body)
    house.until(house.all_final)
    assert house.landed(wish) == 1


def test_a_reversal_of_many_in_one_block_leaves_none_out(house: House) -> None:
    """More final transactions than blocks are looked at: the newest are gone, the older ones stay."""
    house.wish(16, "old")
    house.until(house.all_final)
    wishes = [wish for stem in "abcd" for wish in house.wish(16, stem)]
    house.until(house.all_final)
    depth = house.node.head() - min(
        row.block_number or 0 for row in ChainTransaction.objects.filter(key__startswith="d")
    )
    house.node.ask("anvil_reorg", depth + 1, [])
    report = house.turn()
    assert len(report.reversed) >= 16
    assert not ChainTransaction.objects.filter(pk__in=report.reversed, key__startswith="old").exists()
    house.until(house.all_final)
    assert house.node.nonce(house.sender.address) == 16 + len(wishes)


def test_a_node_that_is_behind_reverses_nothing(house: House) -> None:
    house.wish()
    house.until(house.all_final)
    head = house.node.head()

    def behind(method: str, params: list[Any]) -> Any:
        if method == "eth_getBlockByNumber" and params[0] == "latest":
            return {"result": house.node.ask("eth_getBlockByNumber", "0x1", False)}
        if method == "eth_getBlockByNumber" and int(params[0], 16) > 1:
            return {"result": None} if head > 1 else None
        return None

    house.wish(1, "next")
    with lying_proxy(house.node, Faults(deny=behind)) as rpc:
        report = house.turn(rpc)
    assert report.reversed == []
    assert "behind" in report.waiting_reason
    assert house.states() == ["final", "intended"]
    house.until(house.all_final)


def test_a_stuck_transaction_pays_more_with_the_same_nonce(house: House, settings: Settings) -> None:
    [wish] = house.wish()
    house.turn()
    settings.CHAIN_FEE_BUMP_SECONDS = 0
    assert house.turn().bumped == 1
    old, new = TransactionHash.objects.order_by("max_fee_wei")
    assert new.max_fee_wei * 10 >= old.max_fee_wei * 11
    assert new.max_priority_fee_wei * 10 >= old.max_priority_fee_wei * 11
    assert decode_raw_transaction(bytes(new.raw)).nonce == decode_raw_transaction(bytes(old.raw)).nonce == 0
    settings.CHAIN_FEE_BUMP_SECONDS = 3600
    house.until(house.all_final)
    assert house.landed(wish) == 1


def test_bumping_stops_at_the_cap_and_says_so(house: House, settings: Settings) -> None:
    house.wish()
    house.turn()
    settings.CHAIN_FEE_BUMP_SECONDS = 0
    first = TransactionHash.objects.get().max_fee_wei
    reports = [house.turn() for _ in range(20)]
    assert "the cap is" in reports[-1].waiting_reason
    assert max(TransactionHash.objects.values_list("max_fee_wei", flat=True)) <= first * 5
    assert TransactionHash.objects.count() < 20


def test_the_replaced_original_may_be_the_one_that_is_mined(house: House, settings: Settings) -> None:
    [wish] = house.wish()
    house.turn()
    original = TransactionHash.objects.get()
    settings.CHAIN_FEE_BUMP_SECONDS = 0
    with lying_proxy(
        house.node, Faults(deny=_refuse("eth_sendRawTransaction", "replacement transaction underpriced"))
    ) as rpc:
        assert house.turn(rpc).bumped == 1
    house.until(house.all_final)
    wish.refresh_from_db()
    assert wish.hash == original.hash
    assert house.landed(wish) == 1


def test_a_fee_below_the_base_fee_is_raised_at_once(house: House) -> None:
    [wish] = house.wish()
    house.turn()
    house.node.ask("anvil_dropTransaction", TransactionHash.objects.get().hash)
    house.node.ask("anvil_setNextBlockBaseFeePerGas", hex(8 * 10**9))
    house.node.mine()
    report = house.turn()
    assert report.bumped >= 1
    house.until(house.all_final)
    assert house.landed(wish) == 1


def test_a_stranger_with_our_nonce_is_found_and_named(house: House) -> None:
    [wish] = house.wish()
    with lying_proxy(house.node, Faults(deny=_refuse("eth_sendRawTransaction", "txpool is full"))) as rpc:
        house.turn(rpc)
    house.node.ask("anvil_impersonateAccount", house.sender.address)
    stranger = house.node.ask(
        "eth_sendTransaction", {"from": house.sender.address, "to": "0x" + "99" * 20, "value": "0x7", "nonce": "0x0"}
    )
    house.node.mine()
    house.turn()
    assert house.states() == ["sent"]  # not deep enough to believe
    house.turn(blocks=3)
    wish.refresh_from_db()
    assert wish.state == "replaced"
    assert stranger in wish.reason
    again = intend_again(wish)
    assert (again.key, again.state) == ("wish-0#2", "intended")
    house.until(lambda: house.states() == ["replaced", "final"])
    assert house.landed(wish) == 1


def test_only_what_came_to_its_end_is_intended_again(house: House) -> None:
    [wish] = house.wish()
    with pytest.raises(IllegalMove):
        intend_again(wish)


def test_missing_receipts_never_make_a_stranger_of_ourselves(house: House) -> None:
    house.wish(2)
    house.turn()
    with lying_proxy(house.node, Faults(null_receipt=1)) as rpc:
        for _ in range(6):
            house.turn(rpc, blocks=1)
    assert house.states() == ["sent", "sent"]
    house.until(house.all_final)


def test_the_receipt_of_another_transaction_moves_nothing(house: House) -> None:
    house.wish(2)
    house.turn()
    house.node.mine()
    first, _ = TransactionHash.objects.values_list("hash", flat=True)
    foreign = house.node.ask("eth_getTransactionReceipt", first)

    def mix_up(method: str, params: list[Any]) -> Any:
        return {"result": foreign} if method == "eth_getTransactionReceipt" and params != [first] else None

    with lying_proxy(house.node, Faults(deny=mix_up)) as rpc:
        assert house.turn(rpc).mined == 1
    house.until(house.all_final)


def test_a_crash_at_any_request_loses_nothing_and_sends_nothing_twice(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sixty deaths, each before or after a request of its own choosing."""
    dice = random.Random(7)
    exchange = Rpc._exchange
    deaths = 0
    wishes = []
    for round_ in range(60):
        wishes += house.wish(1, f"round-{round_}")
        left, after = dice.randint(1, 12), dice.random() < 0.5

        def mortal(self: Rpc, body: list[dict[str, Any]], after: bool = after) -> list[Any]:
            nonlocal left
            left -= 1
            if left == 0 and not after:
                raise KeyboardInterrupt
            answers = exchange(self, body)
            if left == 0:
                raise KeyboardInterrupt
            return answers

        with monkeypatch.context() as patched:
            patched.setattr(Rpc, "_exchange", mortal)
            try:
                for _ in range(4):
                    house.turn(blocks=1)
            except KeyboardInterrupt:
                deaths += 1
    house.until(house.all_final)
    print(f"{deaths} deaths, {len(wishes)} wishes")
    assert deaths > 40
    assert [house.landed(wish) for wish in wishes[:1]] == [len(wishes)]
    assert house.node.nonce(house.sender.address) == len(wishes)


def test_what_would_revert_fails_before_it_costs_a_nonce(house: House) -> None:
    code = "0x5f5ffd"  # PUSH0 PUSH0 REVERT
    house.node.ask("anvil_setCode", "0x" + "fe" * 20, code)
    intend(purpose="mint", key="bad", to="0x" + "fe" * 20, data=b"\x01\x02\x03\x04")
    [wish] = house.wish()
    assert house.turn().failed == 1
    assert house.states() == ["failed", "sent"]
    wish.refresh_from_db()
    assert wish.nonce == 0


def test_what_reverts_on_the_chain_fails_when_it_is_deep(house: House) -> None:
    house.node.ask("anvil_setCode", "0x" + "fe" * 20, "0x5f5ffd")
    intend(purpose="mint", key="bad", to="0x" + "fe" * 20, data=b"\x01", gas_limit=60_000)
    house.turn()
    assert house.turn(blocks=1).mined == 1
    assert house.turn(blocks=2).failed == 1
    assert "reverted" in ChainTransaction.objects.get().reason


def test_the_nonce_of_what_no_node_takes_is_filled(house: House) -> None:
    bad = intend(purpose="commit", key="bad", to="0x" + "aa" * 20, data=b"", gas_limit=20_000)
    [wish] = house.wish()
    house.until(lambda: house.states() == ["failed", "final"])
    bad.refresh_from_db()
    assert "intrinsic gas too low" in bad.reason
    assert house.landed(wish) == 1
    assert house.node.nonce(house.sender.address) == 2


def test_a_paused_contract_makes_its_intent_wait(house: House) -> None:
    # PUSH4 EnforcedPause() PUSH0 MSTORE PUSH1 4 PUSH1 28 REVERT
    house.node.ask("anvil_setCode", "0x" + "fe" * 20, "0x63d93c06655f526004601cfd")
    paused = intend(purpose="mint", key="paused", to="0x" + "fe" * 20, data=b"\x01")
    house.wish()
    house.until(lambda: house.states() == ["intended", "final"])
    paused.refresh_from_db()
    assert paused.reason == "the contract is paused"
    house.node.ask("anvil_setCode", "0x" + "fe" * 20, "0x00")
    house.until(house.all_final)


def test_the_queue_waits_for_funds_and_says_so(house: House) -> None:
    house.node.fund(house.sender.address, 10**9)
    house.wish(2)
    report = house.turn()
    assert "no funds" in report.waiting_reason
    assert house.states() == ["intended", "intended"]
    status = SenderStatus.objects.get()
    assert "no funds" in status.waiting_reason
    assert status.balance_wei == Decimal(10**9)
    house.node.fund(house.sender.address, ETHER)
    house.until(house.all_final)
    assert SenderStatus.objects.get().waiting_reason == ""


def test_the_queue_waits_on_the_wrong_chain(house: House, settings: Settings) -> None:
    house.wish()
    with lying_proxy(house.node, Faults(deny=_answer("eth_chainId", "0x1"))) as rpc:
        assert "wrong chain" in house.turn(rpc).waiting_reason
    assert house.states() == ["intended"]
    house.until(house.all_final)


def test_a_second_sender_of_the_same_key_does_nothing(house: House) -> None:
    house.wish()
    name = int.from_bytes(hashlib.sha256(f"sender 31337 {house.sender.address}".encode()).digest()[:8], signed=True)
    with psycopg.connect(**other_session()) as other:
        assert other.execute("SELECT pg_try_advisory_lock(%s)", [name]).fetchone() == (True,)
        report = house.turn()
        assert report.busy
        assert house.states() == ["intended"]
    house.until(house.all_final)


def other_session() -> dict[str, Any]:
    """Give what it takes to open another session on the tests' database."""
    wanted = ("host", "port", "user", "password", "dbname")
    given = connection.get_connection_params()
    return {name: given[name] for name in wanted if given.get(name)}


def test_the_lock_is_given_back_after_a_turn(house: House) -> None:
    house.turn()
    with psycopg.connect(**other_session()) as other:
        row = other.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'").fetchone()
    assert row == (0,)


def test_the_queue_waits_for_a_dead_node(house: House) -> None:
    house.wish()
    report = house.turn(Rpc("http://127.0.0.1:9", sleep=lambda _: None))
    assert report.waiting_reason == "the node can't be reached"
    house.until(house.all_final)


def test_the_queue_waits_while_fees_are_above_the_cap(house: House, settings: Settings) -> None:
    settings.CHAIN_FEE_CAP_GWEI = 1
    house.wish()
    assert "the cap is" in house.turn().waiting_reason
    assert house.states() == ["intended"]
    settings.CHAIN_FEE_CAP_GWEI = 500
    house.until(house.all_final)


def test_without_a_key_nothing_is_sent(
    house: House, monkeypatch: pytest.MonkeyPatch, tmp_path: Any, settings: Settings
) -> None:
    monkeypatch.delenv("TALLYSTICK_KEY_SENDER")
    settings.KEYS_DIR = tmp_path
    house.wish()
    assert "sender.key can't be read" in house.turn().waiting_reason


def test_without_a_chain_nothing_is_sent(settings: Settings) -> None:
    settings.CHAIN_RPC_URL = ""
    assert "CHAIN_RPC_URL" in turn().waiting_reason


def test_nonces_that_a_stranger_used_are_skipped(house: House) -> None:
    house.node.ask("anvil_setNonce", house.sender.address, "0x5")
    [wish] = house.wish()
    house.until(house.all_final)
    wish.refresh_from_db()
    assert wish.nonce == 5


@pytest.mark.parametrize("seed", range(4))
def test_a_lossy_network_and_a_reorg_lose_nothing_and_send_nothing_twice(house: House, seed: int) -> None:
    wishes = house.wish(30)
    faults = Faults(drop_before=0.15, drop_after=0.2, null_receipt=0.2, busy=0.05, seed=seed)
    with lying_proxy(house.node, faults) as rpc:
        for _ in range(8):
            house.turn(rpc, blocks=1)
        house.node.ask("anvil_reorg", faults.dice.randint(1, 5), [])
        # A reversal may be deeper than what is final: then it shows in the turn after it.
        house.until(lambda: house.all_final() and all(map(house.landed, wishes)), rpc, turns=250)
    assert [house.landed(wish) for wish in wishes] == [1] * 30
    assert house.node.nonce(house.sender.address) == 30
    assert min(faults.counts.values()) > 0
    print(f"seed {seed}: {faults.counts}")


@pytest.mark.parametrize("here", TransactionState)
@pytest.mark.parametrize("there", TransactionState)
def test_every_move_that_is_not_drawn_is_refused(db: None, here: TransactionState, there: TransactionState) -> None:
    row = ChainTransaction.objects.create(key="k", purpose="commit", chain_id=1, data=b"", state=here)
    if there in MOVES[here]:
        move(row, there)
        row.refresh_from_db()
        assert row.state == there
        return
    with pytest.raises(IllegalMove):
        move(row, there)


def test_a_move_from_a_state_that_is_no_longer_so_is_refused(db: None) -> None:
    row = ChainTransaction.objects.create(key="k", purpose="commit", chain_id=1, data=b"")
    ChainTransaction.objects.update(state="failed")
    with pytest.raises(IllegalMove, match="another process"):
        move(row, TransactionState.SENT)


def _refuse(method: str, message: str) -> Any:
    return lambda asked, params: {"error": {"code": -32000, "message": message}} if asked == method else None


def _answer(method: str, result: Any) -> Any:
    return lambda asked, params: {"result": result} if asked == method else None
