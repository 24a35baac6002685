"""What is erased is gone by a logged act, says so wherever it is asked for, and everything else still holds."""

import json
from io import StringIO
from typing import Any

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command
from django.db import DatabaseError, connection, transaction

from jobs.audit import audit, house_trust
from jobs.client.tally_format import NotATally, read_tally, write_tally
from jobs.client.verdicts import Word
from jobs.client.verify import verify_tally
from jobs.erase import erase_job
from jobs.errors import NotYet
from jobs.models import Job
from jobs.tally import build_tally
from provenance.models import Artifact
from provenance.store import house_store
from receipts import log
from receipts.canonical import nid_of_digest
from receipts.erase import NotErasable, erase_receipt
from receipts.models import Erasure, Receipt
from tests.jobs.cast import Bo, submit
from tests.jobs.test_tally import bo_of_the_house, done  # noqa: F401  a fixture

pytestmark = pytest.mark.django_db


@pytest.fixture
def job(bo_of_the_house: Bo) -> Job:  # noqa: F811
    return done(bo_of_the_house)


def verdicts(job: Job) -> dict[str, tuple[Word, str]]:
    """Judge a job's tally as a stranger does, offline."""
    log.publish()
    report = verify_tally(build_tally(job), house_trust(Job.objects.get()))
    return {item.claim: (item.verdict, item.detail) for item in report.verdicts}


def publish(settings: Any) -> None:
    settings.CHECKPOINT_SECONDS = 0
    log.turn()


def test_a_jobs_inputs_and_files_go_and_its_evidence_stays(job: Job, settings: Any) -> None:
    files = set(Artifact.objects.filter(subject=job.pk).values_list("blob_id", flat=True))
    assert files
    erased = erase_job(job_id=job.pk, reason="owner")
    assert {act.nid for act in erased.acts} == {nid_of_digest(bytes.fromhex(sha256)) for sha256 in files}
    assert not any(house_store().exists(sha256) for sha256 in files)
    job.refresh_from_db()
    assert (job.inputs, job.salts, job.answer.get("salts")) == ({}, {}, None)
    assert "a red circle" not in json.dumps(Job.objects.filter(pk=job.pk).values().get(), default=str)
    publish(settings)
    told = verdicts(job)
    assert told["receipts-chain"][0] is told["inclusion"][0] is told["receipts-canonical"][0] is Word.HOLDS
    assert told["artifact"][0] is Word.UNKNOWN
    assert "erased" in told["artifact"][1]
    assert not [claim for claim, (word, _) in told.items() if word is Word.BROKEN]
    assert "erased" in audit(job).of("artifact").detail


def test_erasing_again_records_nothing_twice(job: Job) -> None:
    first = erase_job(job_id=job.pk, reason="law")
    again = erase_job(job_id=job.pk, reason="law")
    assert [act.nid for act in again.acts] == [act.nid for act in first.acts]
    assert Receipt.objects.filter(event_type="ReceiptErased").count() == len(first.acts)


def test_bytes_that_another_job_made_too_stay(job: Job) -> None:
    sha256 = Artifact.objects.filter(subject=job.pk).values_list("blob_id", flat=True)[0]
    other = Artifact.objects.filter(subject=job.pk, blob_id=sha256).get()
    Artifact.objects.create(tenant_id="mallory", subject="job_other", role=other.role, name="x", blob_id=sha256)
    erased = erase_job(job_id=job.pk, reason="law")
    assert erased.shared == (sha256,)
    assert house_store().exists(sha256)


def test_what_is_still_needed_is_not_erased(bo: Bo) -> None:
    job_id = submit()
    with pytest.raises(NotYet, match="cancel it first"):
        erase_job(job_id=job_id, reason="owner")
    assert Job.objects.get(pk=job_id).inputs


def test_an_erased_receipt_keeps_its_place_and_says_why(job: Job, settings: Any) -> None:
    progress = Receipt.objects.get(subject=job.pk, event_type="JobStarted")
    act = erase_receipt(progress.nid, reason="policy")
    progress.refresh_from_db()
    assert bytes(progress.body) == b""
    assert (act.reason, act.act.event_type) == ("policy", "ReceiptErased")
    publish(settings)
    told = verdicts(job)
    assert told["inclusion"][0] is Word.HOLDS
    assert told["receipts-canonical"][0] is Word.HOLDS
    assert "1 erased" in told["receipts-canonical"][1]
    assert told["receipts-chain"][0] is Word.UNKNOWN
    assert "JobStarted was erased" in told["receipts-chain"][1]
    assert not [claim for claim, (word, _) in told.items() if word is Word.BROKEN]


def test_withheld_bytes_are_not_taken_for_erased_ones(job: Job, settings: Any) -> None:
    erase_receipt(Receipt.objects.get(subject=job.pk, event_type="JobStarted").nid, reason="policy")
    publish(settings)
    tally = json.loads(build_tally(job))
    del tally["erasures"]
    report = verify_tally(json.dumps(tally).encode(), house_trust(Job.objects.get()))
    found = next(item for item in report.verdicts if item.claim == "receipts-canonical")
    assert found.verdict is Word.BROKEN
    assert "no logged act" in found.detail


@pytest.mark.parametrize("field", ["erased", "type"])
def test_what_is_left_of_an_erased_receipt_is_checked(field: str, job: Job, settings: Any) -> None:
    erase_receipt(Receipt.objects.get(subject=job.pk, event_type="JobStarted").nid, reason="policy")
    publish(settings)
    tally = json.loads(build_tally(job))
    place = next(index for index, item in enumerate(tally["receipts"]) if "erased" in item)
    other = tally["receipts"][0]
    tally["receipts"][place][field] = tally["job_nid"] if field == "erased" else "JobFailed"
    assert other["bytes"]
    report = verify_tally(json.dumps(tally).encode(), house_trust(Job.objects.get()))
    broken = {item.claim for item in report.verdicts if item.verdict is Word.BROKEN}
    assert "inclusion" in broken


def test_a_tally_with_erased_receipts_reads_back_as_it_was_written(job: Job, settings: Any) -> None:
    erase_receipt(Receipt.objects.get(subject=job.pk, event_type="JobStarted").nid, reason="law")
    publish(settings)
    data = build_tally(job)
    assert write_tally(read_tally(data)) == data
    with pytest.raises(NotATally):
        read_tally(data.replace(b'"erased":', b'"bytes":"x","erased":'))


def test_the_act_of_erasing_can_not_be_erased(job: Job) -> None:
    act = erase_receipt(Receipt.objects.filter(subject=job.pk).first().nid, reason="law").act  # type: ignore[union-attr]
    with pytest.raises(NotErasable, match="is a ReceiptErased"):
        erase_receipt(act.nid, reason="law")


def test_without_an_act_not_even_the_owner_empties_a_receipt(job: Job) -> None:
    receipt = Receipt.objects.filter(subject=job.pk).first()
    assert receipt is not None
    for change in ("body = ''", "body = 'x'"):
        with pytest.raises(DatabaseError, match="is evidence"), transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(f"UPDATE receipts_receipt SET {change} WHERE id = %s", [receipt.pk])


def test_with_an_act_only_the_bytes_may_go(job: Job) -> None:
    receipt = Receipt.objects.filter(subject=job.pk).first()
    assert receipt is not None
    erase_receipt(receipt.nid, reason="law")
    for change in ("seq = 9", "body = 'x'", "body = '', origin = 'simulated'"):
        with pytest.raises(DatabaseError, match="is evidence"), transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(f"UPDATE receipts_receipt SET {change} WHERE id = %s", [receipt.pk])


def test_the_application_may_not_erase(job: Job) -> None:
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(f"SET LOCAL ROLE {settings.DATABASE_APP_ROLE}")
        with pytest.raises(CommandError, match="may not erase"), transaction.atomic():
            call_command("erase", "--job", job.pk, "--reason", "law")
        cursor.execute("RESET ROLE")
    assert not Erasure.objects.exists()


def test_the_command_tells_what_it_did(job: Job) -> None:
    out = StringIO()
    call_command("erase", "--job", job.pk, "--reason", "owner", "--json", stdout=out)
    told = json.loads(out.getvalue())
    assert told["erased"]
    assert all(Receipt.objects.filter(nid=item["act"]).exists() for item in told["erased"])
    with pytest.raises(CommandError, match="there is no receipt bafknone"):
        call_command("erase", "--receipt", "bafknone", "--reason", "owner")


def test_the_jobs_page_says_that_it_was_erased(job: Job, admin_client: Any) -> None:
    erase_job(job_id=job.pk, reason="owner")
    page = admin_client.get(f"/admin/jobs/job/{job.pk}/change/").content.decode()
    assert "erased by their owner" in page
    assert "a red circle" not in page
    assert admin_client.get("/admin/receipts/erasure/").status_code == 200
