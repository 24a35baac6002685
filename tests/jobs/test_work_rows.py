"""A job's row is written by hand, by its receipt's statement: it must be the row that Django would write."""

import datetime as dt
import secrets
from typing import Any

import pytest
from django.db import connection, transaction

from jobs.models import Job
from jobs.models.work import job_row
from receipts.models import Pending, Receipt, Tenant, Thread
from receipts.record import AlreadyRecorded, Beside, NotLetIn, record

FACTS: dict[str, Any] = {
    "tenant_id": "ada",
    "nid": "bafkrei" + "a" * 52,
    "kind": "text-to-image",
    "model": "tiny-shapes",
    "inputs": {"prompt": "ein Kreis, rot — “so”", "steps": 5},
    "salts": {"prompt": "x" * 22},
    "max_price": 10**60,
    "expires_at": dt.datetime(2026, 11, 22, 7, 0, 0, 123456, dt.UTC),
    "fingerprint": "f" * 64,
    "promise": {"claim": '{"a":1}', "sig": {}},
    "answer": {"job_id": "x", "null": None},
    "created_at": dt.datetime(2026, 11, 21, 7, tzinfo=dt.UTC),
}
SUBMITTED = {
    "kind": "text-to-image",
    "model": "tiny-shapes",
    "inputs": {"prompt": "A" * 43},
    "priority": 0,
    "expires_at": "2026-11-22T07:00:00.000Z",
}


def written(condition: str = "true", **changes: Any) -> str:
    """Write a job's row beside its receipt; give the job's id."""
    job_id: str = changes.pop("job_id", "job_" + secrets.token_hex(13))
    record(
        event_type="JobSubmitted",
        subject=job_id,
        tenant_id="ada",
        actor="hub:test",
        data=SUBMITTED,
        first=True,
        beside=lambda nid: Beside(
            table="jobs_job",
            row=job_row(job_id=job_id, **FACTS | {"nid": nid} | changes),
            condition=condition,
            given={},
        ),
    )
    return job_id


@pytest.fixture(autouse=True)
def ada(db: None) -> Tenant:
    return Tenant.objects.create(id="ada", name="Ada")


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"idempotency_key": "k", "max_price": None, "priority": 7, "steps": 5, "client_key": "c"},
    ],
)
def test_a_row_written_by_hand_is_the_row_that_django_writes(changes: dict[str, Any]) -> None:
    job_id = written(**changes)
    by_hand = Job.objects.filter(pk=job_id).values().get()
    nid = Receipt.objects.get(subject=job_id).nid
    Job.objects.all().delete()
    Job.objects.create(job_id=job_id, **FACTS | {"nid": nid} | changes)
    assert by_hand == Job.objects.filter(pk=job_id).values().get()


def test_where_the_condition_does_not_hold_nothing_is_written() -> None:
    with pytest.raises(NotLetIn):
        written("false")
    assert not any(model.objects.exists() for model in (Job, Receipt, Thread, Pending))


def test_a_second_row_with_one_key_is_refused_and_its_receipt_with_it() -> None:
    first = written(idempotency_key="k")
    with pytest.raises(AlreadyRecorded), transaction.atomic():
        written(idempotency_key="k")
    connection.check_constraints()
    assert [job.pk for job in Job.objects.all()] == [receipt.subject for receipt in Receipt.objects.all()] == [first]
    assert Pending.objects.count() == Thread.objects.count() == 1
