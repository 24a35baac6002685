"""Each receipt of a job is committed by itself where the policy says so: once, on the job's NID, within its budget."""

import datetime as dt
import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from django.db import transaction
from django.utils import timezone
from pytest_django import Settings

from config.checks import settings_fit_together
from jobs import wake
from receipts import commits
from receipts.anchor import anchor
from receipts.chain.budget import gas_of
from receipts.chain.sender import turn
from receipts.commits import commit_receipts, sent_hash
from receipts.committers.erc7053 import decode_commit
from receipts.committers.evm import find_commits
from receipts.keys import Secp256k1Signer, make_key_file
from receipts.log import found_log
from receipts.log import turn as turn_log
from receipts.models import ChainTransaction, Commit, Receipt, SenderStatus, Tenant, Uncommitted
from receipts.record import Recorded
from receipts.tasks import turn_chain
from tests.receipts.chain.conftest import SENDER_SECRET
from tests.receipts.chain.conftest import node as running  # noqa: F401  a fixture
from tests.receipts.chain.node import CHAIN_ID, Node
from tests.receipts.test_record import JOB, queries, write

REGISTER_AT = "0x" + "7e" * 20
OTHER_JOB = JOB[:-1] + "9"
COMMIT_GAS_LIMIT = 45_000  # one commit's estimate with its slack is below


@pytest.fixture(autouse=True)
def house(tmp_path: Path, settings: Settings, db: None) -> None:
    """A house that commits each receipt: a founded log, a tenant, no chain yet."""
    settings.TLOG_DIR = tmp_path / "tlog"
    settings.KEYS_DIR = tmp_path / "keys"
    settings.CHECKPOINT_SECONDS = 0
    settings.COMMIT_POLICY = "each"
    settings.CHAIN_RPC_URL = "http://127.0.0.1:1"
    settings.REGISTER_ADDRESS = REGISTER_AT
    make_key_file(settings.KEYS_DIR / "log.key", "ed25519")
    Tenant.objects.get_or_create(id="ada", defaults={"name": "Ada"})
    Tenant.objects.get_or_create(id="cy", defaults={"name": "Cy"})
    found_log("log.example/ada")


@pytest.fixture
def node(running: Node, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Node:  # noqa: F811
    """The register on a node of its own, and a sender that can pay."""
    monkeypatch.setenv("TALLYSTICK_KEY_SENDER", f"secp256k1:0x{SENDER_SECRET.hex()}")
    settings.CHAIN_RPC_URL = running.url
    settings.CHAIN_ID = CHAIN_ID
    settings.CONFIRMATIONS = 2
    settings.ANCHOR_INTERVAL = 0
    running.put_register(REGISTER_AT)
    running.fund(Secp256k1Signer(SENDER_SECRET).address)
    return running


def a_job(receipts: int = 1, *, subject: str = JOB, tenant: str = "ada", **rest: Any) -> list[Recorded]:
    """Record a job's first receipt and some progress."""
    first = write(subject=subject, tenant_id=tenant, **rest)
    progress = [write("JobProgressUpdate", subject=subject, tenant_id=tenant, n=n, **rest) for n in range(1, receipts)]
    return [first, *progress]


def on_chain(node: Node, asset: str) -> list[dict[str, str]]:
    """What the register holds on an asset, oldest first."""
    return [json.loads(found.commit_data) for found in find_commits(node.rpc(), register=REGISTER_AT, asset_cid=asset)]


def until_quiet(node: Node, *, turns: int = 40) -> None:
    """Take turns, a block between each, until nothing is open."""
    for _ in range(turns):
        turn_chain()
        node.mine()
        if not ChainTransaction.objects.filter(state__in=["intended", "sent", "mined"]).exists():
            return
    raise AssertionError(Counter(ChainTransaction.objects.values_list("state", "reason")))


# --- the wish ------------------------------------------------------------------------------------------


def test_a_receipt_and_the_wish_to_commit_it_are_one_statement() -> None:
    with queries() as seen:
        first = a_job()
    [statement] = [sql for sql in seen if "receipts_" in sql]
    assert "INSERT INTO receipts_receipt" in statement
    assert "INSERT INTO receipts_uncommitted" in statement
    assert [row.receipt.nid for row in Uncommitted.objects.all()] == [first[0].nid]


def test_a_wish_is_undone_with_its_receipt() -> None:
    with pytest.raises(RuntimeError), transaction.atomic():
        a_job()
        raise RuntimeError("the move failed")
    assert not Uncommitted.objects.exists()
    assert not Receipt.objects.exists()


def test_what_held_at_submission_holds_for_the_whole_job(settings: Settings) -> None:
    settings.COMMIT_POLICY = "batch"
    write()
    settings.COMMIT_POLICY = "each"
    write("JobProgressUpdate", n=1)
    assert not Uncommitted.objects.exists()
    write(subject=OTHER_JOB)
    settings.COMMIT_POLICY = "batch"
    write("JobProgressUpdate", subject=OTHER_JOB, n=1)
    assert Uncommitted.objects.count() == 2


def test_a_door_may_ask_for_it_whatever_the_policy(settings: Settings) -> None:
    settings.COMMIT_POLICY = "batch"
    write(commit_each=True)
    write("JobProgressUpdate", n=1)
    assert Uncommitted.objects.count() == 2


def test_receipts_of_the_public_and_of_the_house_are_left_to_anchors() -> None:
    write("ReputationChanged", subject="provider-bo", tenant_id=None, attempt=0, n=1)
    write("UsageAttested", subject="usage-1", tenant_id=None, attempt=0, first=True)
    assert Receipt.objects.count() == 2
    assert not Uncommitted.objects.exists()


# --- the intent ----------------------------------------------------------------------------------------


def test_a_wish_becomes_one_intent_on_the_jobs_nid() -> None:
    first, second = a_job(2)
    assert (commit_receipts(), commit_receipts()) == (2, 0)
    kept = {commit.receipt.nid: commit for commit in Commit.objects.select_related("receipt") if commit.receipt}
    assert set(kept) == {first.nid, second.nid}
    for nid, event_type in ((first.nid, "JobSubmitted"), (second.nid, "JobProgressUpdate")):
        commit = kept[nid]
        assert commit.asset_cid == first.nid
        assert decode_commit(bytes(commit.transaction.data)) == (first.nid, commit.commit_data)
        told = json.loads(commit.commit_data)
        assert set(told) == {"eventType", "log", "nid"}
        assert (told["eventType"], told["nid"]) == (event_type, nid)
        assert (commit.transaction.purpose, commit.transaction.tenant_id) == ("commit", "ada")
    assert [row.key for row in ChainTransaction.objects.order_by("id")] == [
        f"commit:{first.nid}",
        f"commit:{second.nid}",
    ]


def test_a_crash_on_the_way_to_an_intent_leaves_the_wish(monkeypatch: pytest.MonkeyPatch) -> None:
    a_job(3)

    def die(*_: object) -> str:
        if Commit.objects.count() == 1:
            raise KeyboardInterrupt
        return "{}"

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(commits, "commit_data", die)
        commit_receipts()
    assert (Uncommitted.objects.count(), Commit.objects.count(), ChainTransaction.objects.count()) == (3, 0, 0)
    assert commit_receipts() == 3
    assert (Uncommitted.objects.count(), Commit.objects.count(), ChainTransaction.objects.count()) == (0, 3, 3)


def test_a_simulated_job_says_so_on_the_chain_too() -> None:
    a_job(origin="simulated")
    commit_receipts()
    assert json.loads(Commit.objects.get().commit_data)["origin"] == "simulated"


def test_without_a_register_wishes_wait(settings: Settings) -> None:
    settings.REGISTER_ADDRESS = ""
    a_job()
    assert commit_receipts() == 0
    assert Uncommitted.objects.count() == 1


# --- the chain -----------------------------------------------------------------------------------------


@pytest.mark.chain
def test_every_receipt_of_a_job_stands_on_the_chain_once_and_in_order(node: Node) -> None:
    told = a_job(20)
    other = a_job(3, subject=OTHER_JOB, tenant="cy")
    until_quiet(node)
    assert [item["nid"] for item in on_chain(node, told[0].nid)] == [receipt.nid for receipt in told]
    assert [item["nid"] for item in on_chain(node, other[0].nid)] == [receipt.nid for receipt in other]
    assert set(Commit.objects.filter(receipt__isnull=False).values_list("transaction__state", flat=True)) == {"final"}


@pytest.mark.chain
@pytest.mark.django_db(transaction=True)
def test_a_hash_is_known_within_two_seconds(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """The beat wakes the sender each second and a commit of a move at once; a turn has the other second."""
    told: list[Any] = []
    monkeypatch.setattr(wake._waker, "tell", told.append)
    with transaction.atomic():
        first = a_job(12)[0]
        wake.hub(JOB)
        assert told == []
    assert ("receipts.tasks.turn_chain", "hub", "") in told
    assert sent_hash(first.nid) is None
    began = time.monotonic()
    turn_chain()
    took = time.monotonic() - began
    known = sent_hash(first.nid)
    assert known is not None
    assert node.ask("eth_getTransactionByHash", known)["to"] == REGISTER_AT
    print(f"12 receipts: intents, hashes and broadcast within {took:.2f} s")
    assert took < 1.0


@pytest.mark.chain
def test_an_anchor_goes_before_the_commits_that_wait(node: Node) -> None:
    a_job(40)
    commit_receipts()
    turn_log()
    anchor()
    turn()
    anchored = ChainTransaction.objects.get(purpose="anchor")
    assert (anchored.state, anchored.nonce) == ("sent", 0)


# --- the budget ----------------------------------------------------------------------------------------


@pytest.mark.chain
def test_a_tenants_commits_stop_at_the_days_gas_and_go_on_tomorrow(
    node: Node, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.COMMIT_GAS_DAILY = 3 * COMMIT_GAS_LIMIT
    a_job(50)
    a_job(3, subject=OTHER_JOB, tenant="cy")
    turn_log()
    for _ in range(8):
        turn_chain()
        node.mine()
    mine = ChainTransaction.objects.filter(tenant="ada")
    done = mine.filter(state="final").count()
    assert 3 <= done < 50
    assert mine.filter(state="intended").count() == 50 - done
    assert gas_of(timezone.now().date(), chain_id=CHAIN_ID)["ada"] <= settings.COMMIT_GAS_DAILY
    waiting = mine.filter(state="intended").exclude(reason="").values_list("reason", flat=True)
    assert len(waiting) == 50 - done
    assert "COMMIT_GAS_DAILY" in waiting[0]
    # Who has not used up the day, and the house itself, wait for nobody.
    assert set(ChainTransaction.objects.filter(tenant="cy").values_list("state", flat=True)) == {"final"}
    assert set(ChainTransaction.objects.filter(purpose="anchor").values_list("state", flat=True)) == {"final"}
    status = SenderStatus.objects.get()
    assert (status.waiting_for, "ada" in status.waiting_reason) == ("gas-budget", True)

    tomorrow = timezone.now() + dt.timedelta(days=1)
    monkeypatch.setattr(timezone, "now", lambda: tomorrow)
    turn_chain()
    assert mine.filter(state="intended").count() < 50 - done


@pytest.mark.chain
def test_without_a_bound_nothing_waits(node: Node, settings: Settings) -> None:
    settings.COMMIT_GAS_DAILY = 0
    a_job(40)
    until_quiet(node)
    assert ChainTransaction.objects.filter(tenant="ada", state="final").count() == 40


@pytest.mark.parametrize(
    ("values", "wrong"),
    [
        ({}, None),
        ({"COMMIT_POLICY": "batch"}, None),
        ({"COMMIT_POLICY": "all"}, "tallystick.E001"),
        ({"COMMIT_POLICY": "each", "CHAIN_RPC_URL": "", "EMBEDDED": False}, "tallystick.E009"),
        ({"COMMIT_GAS_DAILY": -1}, "tallystick.E010"),
    ],
)
def test_a_policy_that_can_not_be_is_refused(settings: Settings, values: dict[str, Any], wrong: str | None) -> None:
    for name, value in values.items():
        setattr(settings, name, value)
    found = {str(message.id) for message in settings_fit_together()} & {
        "tallystick.E001",
        "tallystick.E009",
        "tallystick.E010",
    }
    assert found == ({wrong} if wrong else set())
