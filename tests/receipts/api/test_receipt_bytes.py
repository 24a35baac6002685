"""A receipt's bytes go to whom they are for: public ones to anyone, others to their tenant and to auditors."""

import pytest
from django.test import Client

from jobs.models import Job, User
from receipts.canonical import nid
from receipts.models import Receipt
from tests.jobs.api.cast import Program, person, with_evidence


@pytest.fixture
def job(ada: Program) -> Job:
    return with_evidence(ada.submit().json()["job_id"])


def test_the_owner_gets_the_exact_bytes(ada: Program, job: Job) -> None:
    answer = ada.get(f"/api/v1/receipts/{job.nid}")
    assert answer.content == bytes(Receipt.objects.get(nid=job.nid).body)
    assert nid(answer.content) == job.nid
    assert answer["Content-Type"] == "application/json"
    assert answer["ETag"] == f'"{job.nid}"'
    assert "private" in answer["Cache-Control"]
    assert "Authorization" in answer["Vary"]


@pytest.mark.parametrize("event_type", ["UsageAttested", "TokensMinted", "KeyRotated"])
def test_what_the_public_must_check_is_shown_to_anyone(job: Job, event_type: str) -> None:
    receipt = Receipt.objects.filter(event_type=event_type)[0]
    answer = Client().get(f"/api/v1/receipts/{receipt.nid}")
    assert answer.status_code == 200
    assert nid(answer.content) == receipt.nid
    assert "public" in answer["Cache-Control"]
    assert job.pk.encode() not in answer.content
    assert b"ada" not in answer.content


@pytest.mark.parametrize("event_type", ["JobSubmitted", "JobCompleted", "CredentialIssued", "UsageReceipt"])
def test_a_jobs_receipts_are_nobody_elses(mallory: Program, job: Job, event_type: str) -> None:
    receipt = Receipt.objects.get(event_type=event_type, subject=job.pk)
    address = f"/api/v1/receipts/{receipt.nid}"
    assert mallory.get(address).status_code == 404
    assert Client().get(address).status_code == 404
    assert person("cy", User.Role.AUDITOR).get(address).status_code == 200


def test_a_hidden_receipt_and_none_at_all_look_the_same(mallory: Program, job: Job) -> None:
    missing = nid(b"never written")
    hidden, none = (mallory.get(f"/api/v1/receipts/{name}") for name in (job.nid, missing))
    assert hidden.json()["detail"].replace(job.nid, "X") == none.json()["detail"].replace(missing, "X")


def test_who_keeps_a_receipt_is_not_sent_it_again(ada: Program, job: Job) -> None:
    address = f"/api/v1/receipts/{job.nid}"
    assert ada.get(address, **{"If-None-Match": f'"{job.nid}"'}).status_code == 304


def test_a_wrong_key_is_refused_even_for_public_receipts(job: Job) -> None:
    receipt = Receipt.objects.filter(event_type="UsageAttested")[0]
    answer = Client(headers={"Authorization": "Bearer ts_nonsense"}).get(f"/api/v1/receipts/{receipt.nid}")
    assert answer.status_code == 401
