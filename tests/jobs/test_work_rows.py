"""A job's row is written by hand where it is written often: it must be the row that Django would write."""

import datetime as dt
from typing import Any

import pytest
from django.db import IntegrityError, transaction

from jobs.models import Job
from receipts.models import Tenant

FACTS: dict[str, Any] = {
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


@pytest.mark.django_db
def test_a_row_written_by_hand_is_the_row_that_django_writes() -> None:
    tenant = Tenant.objects.create(id="ada", name="Ada")
    for extra in ({}, {"idempotency_key": "k", "max_price": None, "priority": 7, "steps": 5, "client_key": "c"}):
        Job.objects.create(job_id="job_a", tenant=tenant, **FACTS | extra)
        created = Job.objects.filter(pk="job_a").values().get()
        Job.objects.all().delete()
        added = Job.objects.add(job_id="job_a", tenant=tenant, **FACTS | extra)
        assert Job.objects.filter(pk="job_a").values().get() == created
        assert not added._state.adding
        Job.objects.all().delete()


@pytest.mark.django_db
def test_a_second_row_of_one_job_is_refused() -> None:
    tenant = Tenant.objects.create(id="ada", name="Ada")
    Job.objects.add(job_id="job_a", tenant=tenant, **FACTS)
    with pytest.raises(IntegrityError), transaction.atomic():
        Job.objects.add(job_id="job_a", tenant=tenant, **FACTS)
