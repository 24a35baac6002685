"""The line as a table: every place has its step, a crash anywhere re-runs no work and doubles no evidence."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from jobs import lifecycle, pipeline
from jobs.models import Job
from jobs.states import EVIDENCE_MOVES, JOB_MOVES, UNFINISHED, EvidenceState, JobState
from minting import attest as attesting
from minting.models import Usage
from provenance.errors import StoreFull
from provenance.models import Artifact, Credential
from receipts.models import Receipt
from tests.jobs.cast import Bo, leased, let_the_lease_run_out, story, submit

EVIDENCE = ["CredentialIssued", "UsageReceipt"]


class PowerCut(BaseException):
    """What kill -9 is to a process: nothing below may catch it."""


def completed(bo: Bo) -> str:
    job_id = submit()
    attempt = leased(job_id)
    bo.start(attempt)
    bo.complete(attempt)
    return job_id


def test_every_place_that_a_job_can_stand_in_has_a_step_or_is_an_end() -> None:
    for state in JobState:
        for evidence in EvidenceState:
            over = state not in UNFINISHED and evidence in (EvidenceState.NONE, EvidenceState.COMPLETE)
            reachable = (evidence == EvidenceState.NONE) == (state != JobState.COMPLETED)
            assert ((state, evidence) in pipeline.STEPS) == (reachable and not over), (state, evidence)
    assert not JOB_MOVES[JobState.COMPLETED]
    assert not EVIDENCE_MOVES[EvidenceState.COMPLETE]


def test_a_house_without_a_chain_issues_credential_and_usage_and_stops_there(bo: Bo) -> None:
    job_id = completed(bo)
    assert pipeline.advance(job_id) is None
    assert Job.objects.get().evidence == EvidenceState.COMPLETE
    assert story(job_id)[-2:] == EVIDENCE
    assert {artifact.role for artifact in Artifact.objects.all()} == {Artifact.Role.OUTPUT, Artifact.Role.SIGNED}


@pytest.mark.parametrize(
    ("place", "name"),
    [
        (pipeline, "prepare_credential"),
        (pipeline, "keep"),
        (lifecycle, "note"),
        (pipeline, "move_evidence"),
        (attesting, "receive_usage"),
        (attesting, "record"),
    ],
)
@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_crash_at_any_deed_leaves_work_that_the_next_turn_finishes_once(
    bo: Bo, monkeypatch: pytest.MonkeyPatch, place: Any, name: str, moment: str
) -> None:
    job_id = completed(bo)
    deed: Callable[..., Any] = getattr(place, name)

    def dies(*args: Any, **kwargs: Any) -> None:
        if moment == "after":
            deed(*args, **kwargs)
        raise PowerCut

    with monkeypatch.context() as patch:
        patch.setattr(place, name, dies)
        with pytest.raises(PowerCut):
            pipeline.advance(job_id)
    assert pipeline.advance(job_id) is None
    counted = Counter(story(job_id))
    assert {type_: counted[type_] for type_ in EVIDENCE} == dict.fromkeys(EVIDENCE, 1)
    assert counted["JobStarted"] == counted["JobCompleted"] == 1
    assert Credential.objects.count() == Usage.objects.count() == 1
    seqs = list(Receipt.objects.filter(subject=job_id).order_by("seq").values_list("seq", flat=True))
    assert seqs == list(range(1, len(seqs) + 1))


def test_evidence_that_cannot_be_made_now_waits_and_says_why(bo: Bo, monkeypatch: pytest.MonkeyPatch) -> None:
    job_id = completed(bo)

    def full(**_: Any) -> None:
        from pathlib import Path

        raise StoreFull(Path("/store"), 0)

    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "prepare_credential", full)
        waits = pipeline.advance(job_id)
    assert waits is not None and waits.seconds == 1
    job = Job.objects.get()
    assert (job.state, job.evidence, job.evidence_tries) == (JobState.COMPLETED, EvidenceState.CREDENTIAL, 1)
    assert "/store" in job.evidence_reason
    assert pipeline.advance(job_id) is None


def test_the_sweep_finds_what_no_message_told_of(bo: Bo) -> None:
    waiting = submit()
    pipeline.sweep()
    assert Job.objects.get(pk=waiting).state == JobState.SCHEDULED
    attempt = bo_attempt(waiting)
    bo.start(attempt)
    let_the_lease_run_out(attempt)
    pipeline.sweep()  # offered again, and at once leased again
    assert story(waiting)[-2:] == ["JobRequeued", "JobScheduled"]
    again = bo_attempt(waiting)
    bo.start(again)
    bo.complete(again)
    pipeline.sweep()
    assert Job.objects.get(pk=waiting).evidence == EvidenceState.COMPLETE


def test_one_broken_job_does_not_keep_the_others_waiting(bo: Bo, monkeypatch: pytest.MonkeyPatch) -> None:
    broken, well = submit(), submit()
    step = pipeline.STEPS[(JobState.SUBMITTED, EvidenceState.NONE)]

    def stumbles(job: Job) -> Any:
        if job.job_id == broken:
            raise ZeroDivisionError
        return step(job)

    monkeypatch.setitem(pipeline.STEPS, (JobState.SUBMITTED, EvidenceState.NONE), stumbles)
    pipeline.sweep()
    assert Job.objects.get(pk=well).state == JobState.SCHEDULED


def bo_attempt(job_id: str) -> Any:
    from jobs.models import Attempt
    from jobs.states import AttemptState

    return Attempt.objects.select_related("job", "provider").get(job_id=job_id, state=AttemptState.LEASED)
