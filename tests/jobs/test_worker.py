"""A worker: what it does when the work, the disk or the lease fails."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest

from jobs import lifecycle, worker
from jobs.models import Attempt, Job
from jobs.runners.base import Inputs, InputSchema, Output, ProgressReport, Report, RunnerError, RunResult
from jobs.states import AttemptState, JobState
from receipts.canonical import decode_canonical
from receipts.models import Receipt
from tests.jobs.cast import PNG, Bo, leased, let_the_lease_run_out, story, submit

pytestmark = pytest.mark.django_db(transaction=True)


class Drawer:
    """A runner that draws one pixel; `meanwhile` happens in the middle of it."""

    kind: ClassVar[str] = "text-to-image"
    schema: ClassVar[InputSchema] = InputSchema(())
    digest = "d" * 64
    device_name = "CPU test"

    def __init__(self, meanwhile: Callable[[], None] = lambda: None) -> None:
        self.meanwhile = meanwhile

    def setup(self) -> None:
        """Nothing to load."""

    def run(
        self, inputs: Inputs, report: Report, *, workdir: Path, cancelled: Callable[[], bool] = lambda: False
    ) -> RunResult:
        report(ProgressReport(1, 2))
        self.meanwhile()
        (workdir / "picture.png").write_bytes(PNG)
        return RunResult((Output("picture.png", workdir / "picture.png", "image/png"),), {"seed": 7})


@pytest.fixture
def draws(bo: Bo, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def with_(meanwhile: Callable[[], None] = lambda: None) -> None:
        monkeypatch.setattr(worker, "warm_runner", lambda _kind, _model: Drawer(meanwhile))

    return with_


def claim_of(job_id: str, event_type: str) -> dict[str, Any]:
    receipt = Receipt.objects.filter(subject=job_id, event_type=event_type).latest("seq")
    value: dict[str, Any] = decode_canonical(decode_canonical(bytes(receipt.body))["data"]["claim"].encode())
    return value


def test_a_worker_does_the_work_and_says_what_it_measured(draws: Callable[..., None]) -> None:
    draws()
    job_id = submit()
    leased(job_id)
    assert worker.work("bo") == 1
    assert Job.objects.get().state == JobState.COMPLETED
    meter = claim_of(job_id, "JobCompleted")["meter"]
    assert meter["cpu_ms"]["quality"] == "measured"
    assert meter["gpu_ms"] == {"quality": "unavailable", "source": "no-cuda-device"}
    assert not list((worker._work_root()).iterdir())


def test_a_runner_that_cannot_do_it_fails_the_job_with_its_class(draws: Callable[..., None]) -> None:
    def withheld() -> None:
        raise RunnerError("withheld", may_pass=False, detail="the safety checker withheld it")

    draws(withheld)
    job_id = submit()
    leased(job_id)
    worker.work("bo")
    job = Job.objects.get()
    assert (job.state, job.failure_class) == (JobState.FAILED, "withheld")
    assert "safety checker" in job.failure_detail
    raw = bytes(Receipt.objects.get(subject=job_id, event_type="JobFailed").body)
    assert b"safety" not in raw  # free text leaves the house as a digest alone


def test_a_runners_own_bug_is_tried_again_and_does_not_take_the_worker_down(draws: Callable[..., None]) -> None:
    def bug() -> None:
        raise ZeroDivisionError

    draws(bug)
    job_id = submit()
    leased(job_id)
    worker.work("bo")
    assert story(job_id)[-1] == "JobRequeued"
    draws()
    leased(job_id)
    worker.work("bo")
    assert Job.objects.get().state == JobState.COMPLETED


def test_an_output_above_the_limit_fails_the_job_and_leaves_nothing(draws: Callable[..., None], settings: Any) -> None:
    settings.STORE_MAX_BYTES = len(PNG) - 1
    draws()
    leased(submit())
    worker.work("bo")
    job = Job.objects.get()
    assert (job.state, job.failure_class) == (JobState.FAILED, "output")


def test_a_worker_that_lost_its_lease_in_the_middle_completes_nothing(draws: Callable[..., None]) -> None:
    job_id = submit()
    attempt = leased(job_id)

    def overslept() -> None:
        let_the_lease_run_out(attempt)
        assert lifecycle.requeue(fencing=attempt.fencing)

    draws(overslept)
    worker.work("bo")
    assert Job.objects.get().state == JobState.SUBMITTED
    assert Attempt.objects.get().state == AttemptState.LOST
    assert "JobCompleted" not in story(job_id)


def test_a_starting_worker_sweeps_leftovers_but_not_a_running_workers_folder(bo: Bo) -> None:
    leftover = worker._work_root() / "job_x-killed"
    leftover.mkdir()
    (leftover / "half.png").write_bytes(b"half")
    with worker._workdir("job_y") as running:
        pid = os.fork()
        if pid == 0:  # another process: a lock of this one would not stand in its own way
            os._exit(worker.sweep_workdirs())
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1
        assert running.exists()
    assert not leftover.exists()
