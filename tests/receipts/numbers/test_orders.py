"""A job has one asset on Numbers Protocol and a commit for each of its events, whatever happens on the way."""

import datetime as dt
import json
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from types import FrameType
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from receipts.canonical import nid
from receipts.committers import numbers
from receipts.committers.nit import NETWORKS, recover_personal
from receipts.committers.numbers import IllegalMove, move
from receipts.log import log_head
from receipts.models import NumbersAttempt, NumbersOrder, NumbersPlace, Receipt
from receipts.models.numbers import MOVES, NumbersState
from tests.receipts.numbers.conftest import TESTNET, House, client_of
from tests.receipts.numbers.standin import COMMITTER, NUM, STRANGER, TOKEN, WALLET, Faults, blocks_of, is_send

pytestmark = pytest.mark.chain

FAULTS = ["before", "after", "error", "error-after", "throttle"]


def attempts(order: NumbersOrder, act: str = "send") -> list[str]:
    return list(order.attempts.filter(act=act).values_list("outcome", flat=True))


# --- the way it goes ---------------------------------------------------------------------------------------


def test_a_jobs_receipts_become_an_asset_and_its_commits(house: House) -> None:
    job = house.job("JobScheduled", "JobStarted", "JobCompleted")
    house.until_settled()
    orders = list(NumbersOrder.objects.order_by("id"))
    assert [(order.purpose, order.door) for order in orders] == [
        ("register", "assets"),
        ("commit", "commits"),
        ("commit", "commits"),
        ("commit", "commits"),
    ]
    assert {order.state for order in orders} == {"landed"}
    assert [order.verdict for order in orders] == ["holds"] * 4, house.told()
    [asset] = {order.asset for order in orders}
    commits = house.service.commits(asset)
    assert [commit["txHash"] for commit in commits] == [order.tx_hash for order in orders]
    assert {commit["recorder"] for commit in commits} == {WALLET.lower()}
    assert {commit["author"] for commit in commits} == {COMMITTER.address}
    assert len(blocks_of(house.service, asset)) == 4
    assert [json.loads(order.statement)["receipt"] for order in orders] == [told.nid for told in job]
    assert house.turn().taken == 0
    assert house.service.count() == 4


def test_an_order_is_looked_for_before_it_is_sent(house: House) -> None:
    house.job("JobScheduled")
    house.until_settled()
    for order in NumbersOrder.objects.all():
        told = list(order.attempts.order_by("id").values_list("act", "outcome"))
        assert told[0] == ("look", "does not show")
        assert [act for act, _ in told].count("send") == 1
        assert told[-1][0] == "check"
    assert house.service.requests[0][0] == "GET"


def test_what_was_said_is_signed_by_the_author_and_found_in_the_tree(house: House) -> None:
    [told] = house.job()
    house.until_settled()
    order = house.order(told)
    tree = json.loads(house.service.trees[order.asset_tree_cid])
    said = tree["tallystick"]
    assert said["statement"] == order.statement
    assert recover_personal(said["digest"], said["signature"]) == house.signer.address == order.author
    assert tree["jobDetails"]["eventType"] == "JobSubmitted"
    assert tree["jobDetails"]["idempotencyKey"] == f"gpu-job-{told.nid}-JobSubmitted"


def test_by_default_nothing_leaves_the_house_but_what_the_public_log_shows(house: House) -> None:
    house.job("JobScheduled", "JobStarted", "JobFailed")
    house.until_settled()
    sent = b"\n".join(house.service.bodies).decode()
    for receipt in Receipt.objects.all():
        body = json.loads(bytes(receipt.body))
        assert receipt.nid in sent
        private = [receipt.subject, body["salt"], body["actor"], body["occurredAt"], '"ada"']
        private += [value for value in leaves(body["data"]) if len(value) > 3]
        assert [text for text in private if text in sent] == []


def leaves(value: Any) -> Iterator[str]:
    """Every text and number in a JSON value."""
    if isinstance(value, dict):
        for item in value.values():
            yield from leaves(item)
    elif isinstance(value, list):
        for item in value:
            yield from leaves(item)
    elif not isinstance(value, bool):
        yield str(value)


def test_by_policy_the_asset_is_the_receipt_and_bears_the_jobs_own_nid(house: House) -> None:
    house.settings.NUMBERS_ASSET = "receipt"
    [told] = house.job()
    house.until_settled()
    order = house.order(told)
    assert order.asset == told.nid
    assert order.verdict == "holds"
    asset = house.service.assets[told.nid]
    assert asset["caption"].startswith("GPU Job JobSubmitted: text-to-image | JobID: bafkrei")
    assert asset["nit_commit_custom"]["gpuJobMetadata"]["taskType"] == "text-to-image"


def test_a_job_that_began_before_the_network_was_turned_on_is_left_alone(house: House) -> None:
    house.settings.NUMBERS_NETWORK = "off"
    [early] = house.job()
    subject = Receipt.objects.get(nid=early.nid).subject
    assert house.turn().waiting_reason == "NUMBERS_NETWORK is off"
    NumbersPlace.objects.all().delete()
    house.settings.NUMBERS_NETWORK = "mainnet"
    house.turn()
    house.tell(subject, "JobScheduled")
    house.job()
    house.until_settled()
    assert house.states() == ["landed"]


def test_only_the_chosen_events_are_committed(house: House) -> None:
    house.settings.NUMBERS_EVENTS = ["JobCompleted"]
    house.job("JobScheduled", "JobStarted", "JobCompleted")
    house.until_settled()
    assert [json.loads(order.statement)["eventType"] for order in NumbersOrder.objects.order_by("id")] == [
        "JobSubmitted",
        "JobCompleted",
    ]


def test_an_asset_is_waited_for_until_its_transaction_shows(house: House) -> None:
    house.service.slow_work = 3
    job = house.job("JobScheduled")
    house.turn(2)
    register = house.order(job[0])
    assert (register.state, register.tx_hash) == ("sent", "")
    assert "running" in register.reason
    assert house.order(job[1]).state == "intended"  # a commit waits for its asset
    house.until_settled()
    assert house.states() == ["landed", "landed"]
    assert house.service.count() == 2


def test_work_that_fails_behind_a_registration_fails_the_asset_and_what_would_stand_on_it(house: House) -> None:
    house.service.slow_work, house.service.work_fails = 1, True
    house.job("JobScheduled")
    house.until_settled()
    assert [(state, reason[:34]) for state, reason, _, _ in house.told()] == [
        ("failed", "the service's workflow " + house.order_workflow()[:11]),
        ("failed", "its asset could not be registered"),
    ]
    assert len(house.service.sends()) == 1


# --- networks ---------------------------------------------------------------------------------------------


def test_off_is_the_default_and_sends_nothing(house: House) -> None:
    house.settings.NUMBERS_NETWORK = "off"
    house.job("JobScheduled")
    house.turn(3)
    assert NumbersOrder.objects.count() == 0
    assert house.service.requests == []


@pytest.mark.parametrize("name", ["", "Mainnet", "main", "testnet ", "both"])
def test_a_network_is_turned_on_by_its_very_name_alone(house: House, name: str) -> None:
    house.settings.NUMBERS_NETWORK = name
    assert "NUMBERS_NETWORK" in house.turn().waiting_reason


def test_the_testnet_never_goes_through_the_door_that_leads_to_the_main_network(house: House) -> None:
    house.settings.NUMBERS_NETWORK = "testnet"
    house.turn()
    house.job("JobScheduled")
    house.turn(4)
    assert {order.door for order in NumbersOrder.objects.all()} == {"commits"}
    assert {path for method, path in house.service.sends()} == {"/nit"}
    assert all(
        json.loads(body)["testnet"] is True
        for (method, path), body in zip(house.service.requests, house.service.bodies, strict=True)
        if is_send(method, path)
    )
    # The stand-in's chain is the main network's: what landed is not believed on a chain with another id.
    assert {(state, verdict) for state, _, verdict, _ in house.told()} == {("landed", "unknown")}
    assert all(f"{TESTNET} is due" in detail for _, _, _, detail in house.told())


def test_what_was_simulated_is_never_paid_for_on_the_main_network(house: House) -> None:
    house.job("JobScheduled", origin="simulated")
    house.job()
    house.until_settled()
    assert house.states() == ["landed"]
    house.settings.NUMBERS_NETWORK = "testnet"
    house.turn()
    house.job("JobScheduled", origin="simulated")
    house.turn(3)
    assert NumbersOrder.objects.filter(network="testnet").count() == 2


def test_without_a_token_nothing_is_asked(house: House) -> None:
    house.settings.CAPTURE_TOKEN = ""
    house.job()
    assert house.turn().waiting_reason == "CAPTURE_TOKEN is not set"
    assert house.service.requests == []


def test_two_at_once_are_one(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    from contextlib import nullcontext

    house.job()
    monkeypatch.setattr(numbers, "sole_sender", lambda **_: nullcontext(False))
    assert house.turn().busy
    assert NumbersOrder.objects.count() == 0


# --- what goes wrong ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("door", ["/api/v3/assets/", "/nit"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_at_any_request_that_costs_leads_to_one_commit_for_each_intent(
    house: House, door: str, fault: str
) -> None:
    house.service.faults = Faults(
        plan=lambda method, path: fault if method == "POST" and path == door and not house.service.faults.met else None
    )
    house.job("JobScheduled", "JobStarted")
    house.until_settled()
    assert house.service.faults.met == [fault]
    assert house.service.count() == 3
    assert {state for state, _, _, _ in house.told()} == {"landed"}
    assert {verdict for _, _, verdict, _ in house.told()} == {"holds"}


def test_a_service_that_is_too_slow_is_looked_for_again(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numbers, "service", lambda on: client_of(house.service, timeout_seconds=0.7))
    house.service.faults = Faults(
        plan=lambda method, path: "slow" if path == "/nit" and not house.service.faults.met else None
    )
    house.job("JobScheduled")
    house.until_settled()
    assert house.service.count() == 2
    assert house.states() == ["landed", "landed"]


def test_what_can_not_be_told_stays_unknown_with_its_reason(house: House) -> None:
    house.settings.NUMBERS_SETTLE_SECONDS = 900
    job = house.job("JobScheduled")
    house.turn(2)
    house.service.faults = Faults(plan=lambda method, path: "before" if path == "/nit" else None)
    house.turn()
    order = house.order(job[1])
    assert (order.state, order.reason) == ("unknown", "the connection broke before an answer came")
    house.service.faults.plan = lambda method, path: "error" if path == "/history" else None
    house.turn(3)
    order.refresh_from_db()
    assert (order.state, order.reason) == ("unknown", "HTTP 500: Internal Server Error")
    house.service.faults = Faults()
    house.turn(3)
    order.refresh_from_db()
    assert order.state == "unknown"
    assert order.reason.startswith("does not show")
    assert attempts(order) == ["NoAnswer: the connection broke before an answer came"]


def test_what_shows_late_is_not_sent_again(house: House) -> None:
    house.settings.NUMBERS_SETTLE_SECONDS = 900
    job = house.job("JobScheduled")
    house.turn(2)
    house.service.hidden = True
    house.service.faults = Faults(plan=lambda method, path: "after" if path == "/nit" else None)
    house.turn(4)
    assert house.order(job[1]).state == "unknown"
    house.service.hidden = False
    house.turn()
    assert house.order(job[1]).state == "landed"
    house.service.faults = Faults()
    house.until_settled()
    assert house.service.count() == 2


def test_what_did_not_show_in_all_the_time_it_may_need_is_sent_again(house: House) -> None:
    house.settings.NUMBERS_SETTLE_SECONDS = 900
    job = house.job("JobScheduled")
    house.turn(2)
    house.service.faults = Faults(
        plan=lambda method, path: "before" if path == "/nit" and not house.service.faults.met else None
    )
    house.turn(2)
    NumbersOrder.objects.filter(state="unknown").update(sent_at=timezone.now() - dt.timedelta(seconds=901))
    house.until_settled()
    assert house.order(job[1]).state == "landed"
    assert len(attempts(house.order(job[1]))) == 2
    assert house.service.count() == 2


def test_backing_off_doubles_up_to_an_hour_and_ends_with_progress(house: House) -> None:
    [told] = house.job()
    house.service.faults = Faults(plan=lambda method, path: "error")
    waits = []
    for _ in range(14):
        house.turn()
        order = house.order(told)
        waits.append((order.due_at - timezone.now()).total_seconds())
    assert 3 < waits[0] < 7
    assert waits[1] > waits[0] * 1.2
    assert max(waits) < 3600 * 1.21
    house.service.faults = Faults()
    house.until_settled()
    assert house.order(told).tries == 0


def test_an_empty_account_holds_everything_up_and_loses_nothing(house: House) -> None:
    house.service.balances[TOKEN] = NUM // 10
    house.job("JobScheduled", "JobStarted")
    report = house.turn(4)
    assert "Insufficient NUM" in report.waiting_reason
    assert "Insufficient NUM" in NumbersPlace.objects.get().waiting_reason
    assert house.states() == ["landed", "intended", "intended"]
    house.service.balances[TOKEN] = 10 * NUM
    house.until_settled()
    assert house.service.count() == 3
    assert NumbersPlace.objects.get().waiting_reason == ""


def test_a_revoked_token_holds_everything_up_and_loses_nothing(house: House) -> None:
    house.service.balances.pop(TOKEN)
    house.job("JobScheduled")
    assert "HTTP 401" in house.turn(3).waiting_reason
    assert house.states() == ["intended", "intended"]
    assert TOKEN not in str(house.told()) + str(list(NumbersAttempt.objects.values_list("outcome", flat=True)))
    house.service.balances[TOKEN] = 10 * NUM
    house.until_settled()
    assert house.service.count() == 2


def test_an_asset_that_mallory_took_first_fails_and_costs_nothing(house: House) -> None:
    house.settings.NUMBERS_ASSET = "receipt"
    job = house.job("JobScheduled")
    body = bytes(Receipt.objects.get(nid=job[0].nid).body)
    client_of(house.service, STRANGER).register(file=body, filename="x.json", mime="application/json", fields={})
    before = house.service.balances[TOKEN]
    house.until_settled()
    assert [(state, reason) for state, reason, _, _ in house.told()] == [
        ("failed", "the asset stands there in another's name"),
        ("failed", "its asset could not be registered"),
    ]
    assert house.service.balances[TOKEN] == before


def test_a_refusal_for_good_fails_its_order_and_no_other(house: House) -> None:
    job = house.job("JobScheduled", "JobStarted")
    house.turn(2)
    scheduled = house.order(job[1])
    NumbersOrder.objects.filter(pk=scheduled.pk).update(payload='{"assetCid":"' + scheduled.asset + '"}')
    house.until_settled()
    scheduled.refresh_from_db()
    assert (scheduled.state, scheduled.reason) == ("failed", "HTTP 400: encodingFormat is required")
    assert house.order(job[2]).state == "landed"


def test_the_days_requests_of_one_tenant_are_bounded_and_another_is_served(house: House) -> None:
    house.settings.NUMBERS_DAILY_LIMIT = 2
    house.job("JobScheduled", "JobStarted", tenant="ada")
    house.job("JobScheduled", tenant="mallory")
    house.turn(8)
    assert house.states() == ["landed", "landed", "intended", "landed", "landed"]
    assert "2 requests of this tenant" in house.told()[2][1]
    NumbersAttempt.objects.update(begun_at=timezone.now() - dt.timedelta(days=1, minutes=1))
    house.until_settled()
    assert house.states() == ["landed"] * 5


def test_one_orders_trouble_does_not_keep_the_others_waiting(house: House) -> None:
    first = house.job()
    house.job()
    numbers.turn(limit=0)
    NumbersOrder.objects.filter(pk=house.order(first[0]).pk).update(payload="not json")
    for _ in range(4):
        house.turn()
    assert house.order(first[0]).state in ("intended", "sent", "unknown")
    assert house.states().count("landed") == 1


# --- what is read back -----------------------------------------------------------------------------------------


def test_a_tree_that_says_something_else_breaks(house: House) -> None:
    job = house.job("JobScheduled")
    house.turn(2)
    original = house.service.write

    def other(nid: str, tree: dict[str, Any], *, abstract: str) -> dict[str, str]:
        tree["tallystick"] = {**tree["tallystick"], "statement": tree["tallystick"]["statement"].replace("7", "8")}
        return original(nid, tree, abstract=abstract)

    house.service.write = other  # type: ignore[method-assign]
    house.until_settled()
    order = house.order(job[1])
    assert (order.state, order.verdict, order.verdict_detail) == (
        "landed",
        "broken",
        "the asset tree holds another statement",
    )


def test_a_commit_by_a_stranger_breaks(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    on = replace(NETWORKS["mainnet"], wallet="0x" + "99" * 20)
    monkeypatch.setattr("receipts.committers.nit.NETWORKS", {"mainnet": on})
    [told] = house.job()
    house.until_settled()
    order = house.order(told)
    assert order.verdict == "broken"
    assert order.verdict_detail == f"recorded by {WALLET.lower()}, neither the service nor the author"


def test_a_transaction_that_the_register_does_not_show_is_unknown_not_believed(house: House) -> None:
    [told] = house.job()
    house.turn(2)
    NumbersOrder.objects.update(tx_hash="0x" + "ab" * 32, verdict="unknown")
    house.turn(2)
    order = house.order(told)
    assert order.verdict == "unknown"
    assert order.verdict_detail.startswith("the register does not show a commit by 0xabab")


def test_a_node_that_is_away_leaves_the_verdict_open_and_it_is_asked_again(house: House) -> None:
    url, house.settings.NUMBERS_RPC_URL = house.settings.NUMBERS_RPC_URL, "http://127.0.0.1:9"
    [told] = house.job()
    house.turn(3)
    assert (house.order(told).state, house.order(told).verdict) == ("landed", "unknown")
    assert house.order(told).verdict_detail == "the node can't be reached"
    house.settings.NUMBERS_RPC_URL = url
    house.until_settled()
    assert house.order(told).verdict == "holds"


# --- crashes ------------------------------------------------------------------------------------------------------


@contextmanager
def killed_at(line: int) -> Iterator[list[int]]:
    """End the process, as far as the house can tell, before the `line`th line of the committer that runs."""
    passed = [0]

    def local(frame: FrameType, event: str, _: Any) -> Any:
        if event == "line":
            passed[0] += 1
            if passed[0] == line:
                raise KeyboardInterrupt
        return local

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        return local if frame.f_code.co_filename == numbers.__file__ else None

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield passed
    finally:
        sys.settrace(before)


def bury() -> None:
    """Do what the server does for a client that died: its transaction is rolled back, its lock is free."""
    connection.close()
    connection.connect()


def killed_run(house: House, line: int) -> bool:
    """Let a job happen while the process dies at one line; tell whether that line was reached."""
    house.job("JobScheduled")
    with killed_at(line) as passed:
        try:
            house.until_settled()
        except KeyboardInterrupt:
            bury()
    died = passed[0] == line
    house.until_settled()
    return died


@pytest.mark.django_db(transaction=True)
def test_a_crash_at_any_line_leads_to_one_commit_for_each_intent(house: House, full: bool) -> None:
    """At every fourth line of the committer that runs; by default at a smaller sample of them."""
    house.job("JobScheduled")
    with killed_at(-1) as passed:
        house.until_settled()
    lines = list(range(1, passed[0] + 1))
    chosen = lines[::4] if full else sorted(random.Random(7).sample(lines, 8))
    died = sum(killed_run(house, line) for line in chosen)
    print(f"\n{died} crashes at {len(chosen)} of {len(lines)} lines")
    assert died >= len(chosen) * 9 // 10
    assert set(house.states()) == {"landed"}
    assert house.service.count() == NumbersOrder.objects.count() == 2 * (len(chosen) + 1)


@pytest.mark.django_db(transaction=True)
def test_whatever_is_lost_on_the_way_commits_equal_intents(house: House, full: bool) -> None:
    """A quarter of all requests goes wrong in some way, and the process dies now and then."""
    rounds = 40 if full else 3
    dice = random.Random(2026)
    house.service.slow_work = 1

    def plan(method: str, path: str) -> str | None:
        return dice.choice(FAULTS) if dice.random() < 0.25 else None

    house.service.faults = Faults(plan=plan)
    crashes = 0
    for _ in range(rounds):
        house.job("JobScheduled", "JobStarted", "JobCompleted")
        with killed_at(dice.randrange(1, 2_000)):
            try:
                house.turn(2)
            except KeyboardInterrupt:
                bury()
                crashes += 1
    house.until_settled(turns=600)
    print(f"\n{NumbersOrder.objects.count()} orders, {crashes} crashes, faults: {len(house.service.faults.met)}")
    assert set(house.states()) == {"landed"}
    assert {verdict for _, _, verdict, _ in house.told()} == {"holds"}
    assert house.service.count() == NumbersOrder.objects.count() == 4 * rounds


# --- the machine -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("here", "there"), list(product(NumbersState, NumbersState)))
def test_an_order_goes_from_a_state_to_those_of_the_table_and_no_other(
    house: House, here: NumbersState, there: NumbersState
) -> None:
    [told] = house.job()
    numbers.turn(limit=0)
    order = house.order(told)
    NumbersOrder.objects.filter(pk=order.pk).update(state=here)
    order.refresh_from_db()
    if there in MOVES[here]:
        move(order, there, reason="moved")
        order.refresh_from_db()
        assert (order.state, order.reason) == (there, "moved")
    else:
        with pytest.raises(IllegalMove):
            move(order, there)
        order.refresh_from_db()
        assert order.state == here


def test_of_two_that_move_an_order_one_is_refused(house: House) -> None:
    [told] = house.job()
    numbers.turn(limit=0)
    one, other = house.order(told), house.order(told)
    move(one, NumbersState.SENT)
    with pytest.raises(IllegalMove, match="another process"):
        move(other, NumbersState.FAILED)


def test_the_nid_of_an_asset_is_that_of_its_bytes(house: House) -> None:
    [told] = house.job()
    numbers.turn(limit=0)
    order = house.order(told)
    assert order.asset == nid(bytes(order.file))
    assert json.loads(bytes(order.file)) == {
        "eventType": "JobSubmitted",
        "format": "tallystick-proof/1",
        "leaf": 0,
        "log": "example.org/tally",
        "logNid": log_head().nid,
        "nid": told.nid,
    }
