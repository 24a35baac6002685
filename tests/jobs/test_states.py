"""Every state machine over all pairs: each edge leads there, each non-edge is refused, and nothing else moves a row."""

import itertools
import re
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from django.db import models
from django.utils import timezone

from jobs import states
from jobs.errors import IllegalMove, LeaseLost
from jobs.lifecycle import _move_attempt, move, move_evidence
from jobs.models import Attempt, Job, Provider
from jobs.states import (
    ATTEMPT_MOVES,
    EVIDENCE_MOVES,
    JOB_MOVES,
    ONLY_REPORTED,
    UNFINISHED,
    AttemptState,
    EvidenceState,
    JobState,
)
from minting import attest
from minting import models as minting_models
from minting.models import MintState, Usage
from receipts.canonical import nid
from receipts.chain import sender
from receipts.models import ChainTransaction, Receipt, Tenant
from receipts.models import transactions as transaction_models
from receipts.models.transactions import TransactionState

Row = Job | Attempt | ChainTransaction | Usage


@dataclass(frozen=True)
class Machine:
    """One state machine: its states, its moves, the drawing beside it, and what moves a row of it."""

    states: type[models.TextChoices]
    moves: Mapping[Any, frozenset[Any]]
    drawing: str
    make: Callable[[str], Row]
    move: Callable[[Any, Any], object]
    field: str
    refusals: tuple[type[Exception], ...]


def tenant() -> Tenant:
    return Tenant.objects.get_or_create(id="ada", defaults={"name": "Ada"})[0]


def job(state: str = "submitted", **facts: Any) -> Job:
    unique = uuid.uuid4().hex
    return Job.objects.create(
        **{
            "job_id": f"job_{unique[:26]}",
            "tenant": tenant(),
            "nid": nid(unique.encode()),
            "kind": "text-to-image",
            "model": "tiny-shapes",
            "origin": "reported",  # hosted jobs lack one edge, which has a test of its own
            "state": state,
            "inputs": {},
            "salts": {},
            "expires_at": timezone.now(),
            "fingerprint": "0" * 64,
            "promise": {},
            "answer": {},
            "created_at": timezone.now(),
            **facts,
        }
    )


def attempt(state: str) -> Attempt:
    bo, _ = Provider.objects.get_or_create(
        slug="bo",
        defaults={
            "tenant": tenant(),
            "name": "Bo",
            "key_id": "B" * 43,
            "payout": "0x" + "b0" * 20,
            "kinds": ["text-to-image"],
            "unit_type": "cpu_ms",
            "price": 1,
        },
    )
    now = timezone.now()
    return Attempt.objects.create(
        job=job("running"),
        number=1,
        provider=bo,
        state=state,
        price=1,
        unit_type="cpu_ms",
        lease_until=now,
        leased_at=now,
    )


def transaction(state: str) -> ChainTransaction:
    return ChainTransaction.objects.create(
        key=uuid.uuid4().hex, purpose="anchor", chain_id=31337, sender="0x" + "5e" * 20, data=b"", state=state
    )


def usage(state: str) -> Usage:
    unique = uuid.uuid4().hex
    receipt = Receipt.objects.create(
        nid=nid(unique.encode()),
        subject=unique,
        event_type="UsageReceipt",
        seq=1,
        origin="hosted",
        occurred_at=timezone.now(),
        body=b"{}",
    )
    return Usage.objects.create(
        tenant=tenant(),
        subject=unique,
        receipt_hash="0x" + unique * 2,
        text="{}",
        signature={},
        provider="B" * 43,
        payout="0x" + "b0" * 20,
        units=1,
        unit_type="cpu_ms",
        price=1,
        amount=1,
        usage_receipt=receipt,
        state=state,
    )


MACHINES = {
    "job": Machine(JobState, JOB_MOVES, states.__doc__ or "", job, move, "state", (IllegalMove,)),
    "attempt": Machine(AttemptState, ATTEMPT_MOVES, "", attempt, _move_attempt, "state", (IllegalMove, LeaseLost)),
    "evidence": Machine(
        EvidenceState,
        EVIDENCE_MOVES,
        "",
        lambda state: job("completed", evidence=state),
        move_evidence,
        "evidence",
        (IllegalMove,),
    ),
    "transaction": Machine(
        TransactionState,
        transaction_models.MOVES,
        TransactionState.__doc__ or "",
        transaction,
        sender.move,
        "state",
        (sender.IllegalMove,),
    ),
    "mint": Machine(
        MintState,
        minting_models.MOVES,
        MintState.__doc__ or "",
        usage,
        attest.move,
        "state",
        (attest.IllegalMintMove,),
    ),
}
PAIRS = [
    pytest.param(machine, here, there, id=f"{name}: {here} to {there}")
    for name, machine in MACHINES.items()
    for here, there in itertools.product(machine.states, repeat=2)
]
EACH = pytest.mark.parametrize("machine", MACHINES.values(), ids=MACHINES.keys())


@pytest.mark.django_db
@pytest.mark.parametrize(("machine", "here", "there"), PAIRS)
def test_a_move_is_made_where_an_edge_leads_and_refused_where_none_does(
    machine: Machine, here: Any, there: Any
) -> None:
    row = machine.make(here)
    if there in machine.moves[here]:
        machine.move(row, there)
        wanted = there
    else:
        with pytest.raises(machine.refusals):
            machine.move(row, there)
        wanted = here
    assert getattr(type(row)._default_manager.get(pk=row.pk), machine.field) == wanted


@pytest.mark.django_db
@EACH
def test_a_move_that_another_process_made_first_is_refused(machine: Machine) -> None:
    here = next(state for state in machine.states if machine.moves[state])
    there = min(machine.moves[here])
    stale = machine.make(here)
    machine.move(type(stale)._default_manager.get(pk=stale.pk), there)
    with pytest.raises(machine.refusals):
        machine.move(stale, there)


@EACH
def test_every_state_has_its_moves_and_a_sentence(machine: Machine) -> None:
    assert set(machine.moves) == set(machine.states)
    for state in machine.states:
        assert re.match(r"[A-Z]", str(state.label)), f"{state} has no sentence"
        assert machine.moves[state] <= set(machine.states)


@EACH
def test_every_state_is_reached_from_the_first_one(machine: Machine) -> None:
    seen, todo = set(), [next(iter(machine.states))]
    while todo:
        state = todo.pop()
        seen.add(state)
        todo += machine.moves[state] - seen
    assert seen == set(machine.states)


@EACH
def test_the_drawing_shows_every_state(machine: Machine) -> None:
    for state in machine.states if machine.drawing else ():
        assert str(state.value) in machine.drawing


def test_the_job_s_moves_are_those_of_the_design() -> None:
    s, a, r = JobState.SUBMITTED, JobState.SCHEDULED, JobState.RUNNING
    ends = {JobState.FAILED, JobState.CANCELLED}
    assert {(here, there) for here in JobState for there in JOB_MOVES[here]} == {
        (s, a),
        (s, r),
        (a, r),
        (a, s),
        (r, s),
        (r, JobState.COMPLETED),
        *itertools.product((s, a, r), ends),
    }


def test_unfinished_states_are_those_that_lead_on() -> None:
    assert {state for state in JobState if JOB_MOVES[state]} == UNFINISHED


@pytest.mark.django_db
@pytest.mark.parametrize("origin", ["hosted", "simulated"])
def test_only_reported_jobs_skip_the_schedule(origin: str) -> None:
    assert {(JobState.SUBMITTED, JobState.RUNNING)} == ONLY_REPORTED
    with pytest.raises(IllegalMove):
        move(job(origin=origin), JobState.RUNNING)


@pytest.mark.django_db
def test_a_refused_move_names_both_states() -> None:
    done = job("completed")
    with pytest.raises(IllegalMove, match="is completed; no move leads from there to cancelled"):
        move(done, JobState.CANCELLED)


@pytest.mark.django_db
def test_facts_are_written_with_the_move_or_not_at_all() -> None:
    started = timezone.now()
    running = job("scheduled")
    move(running, JobState.RUNNING, started_at=started)
    assert Job.objects.get(pk=running.pk).started_at == started
    done = job("completed")
    with pytest.raises(IllegalMove):
        move(done, JobState.RUNNING, started_at=started)
    assert Job.objects.get(pk=done.pk).started_at is None
