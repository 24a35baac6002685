"""Kill -9 of a worker in the middle of a picture: the job is offered again and completes once."""

import os
import subprocess
import sys
import time
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import pytest
from django.conf import settings
from django.db import connection

from jobs import pipeline, worker
from jobs.models import Attempt, Job
from jobs.states import AttemptState, EvidenceState, JobState
from receipts.models import Receipt, Tenant
from tests.flow.test_line import submit_signed
from tests.flow.turns import turn_until

pytestmark = pytest.mark.chain


def start_worker() -> "subprocess.Popen[bytes]":
    """Start a worker on this test's database and folders."""
    address = urlsplit(os.environ["DATABASE_URL"])
    url = urlunsplit(address._replace(path=f"/{connection.settings_dict['NAME']}"))
    env = os.environ | {
        "DJANGO_SETTINGS_MODULE": "config.settings",
        "DATABASE_URL": url,
        "TALLYSTICK_DATA_DIR": str(settings.DATA_DIR),
        "LOG_ORIGIN": settings.LOG_ORIGIN,
        "LEASE_SECONDS": "3",
        "CHAIN_ID": str(settings.CHAIN_ID),
        "OMP_NUM_THREADS": "1",
    }
    return subprocess.Popen([sys.executable, "-m", "tests.flow.one_worker"], env=env, start_new_session=True)


def wait_for(what: Any, seconds: float = 90) -> None:
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.05)


def test_a_worker_killed_in_the_middle_of_a_picture_costs_one_attempt(
    house: dict[str, Any], ada: Tenant, settings: Any
) -> None:
    settings.LEASE_SECONDS = 3
    job_id = submit_signed(ada, steps=400)
    pipeline.advance(job_id)
    victim = start_worker()
    try:
        wait_for(lambda: victim.poll() is not None or _has_progressed(job_id))
        assert victim.poll() is None, "the worker died by itself"
    finally:
        victim.kill()
        victim.wait()
    assert Job.objects.get(pk=job_id).state == JobState.RUNNING  # nobody knows yet
    wait_for(lambda: pipeline.sweep() and Job.objects.get(pk=job_id).state == JobState.SCHEDULED, 20)
    assert worker.work("bo") == 1

    job = Job.objects.get(pk=job_id)
    assert (job.state, job.attempt) == (JobState.COMPLETED, 2)
    states = list(Attempt.objects.order_by("number").values_list("state", flat=True))
    assert states == [AttemptState.LOST, AttemptState.SUCCEEDED]
    turn_until(lambda: Job.objects.get(pk=job_id).evidence == EvidenceState.COMPLETE, advancing=job_id)
    types = list(Receipt.objects.filter(subject=job_id).values_list("event_type", flat=True))
    for once in ("JobRequeued", "JobCompleted", "CredentialIssued", "UsageReceipt"):
        assert types.count(once) == 1, once
    assert types.count("JobStarted") == 2


def _has_progressed(job_id: str) -> bool:
    return Receipt.objects.filter(subject=job_id, event_type="JobProgressUpdate").exists()
