"""A job's evidence, taken away: receipts as bytes, the signed file, the tally."""

import hashlib
import json
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from jobs.models import Job
from jobs.states import EvidenceState, JobState
from receipts import log
from receipts.canonical import nid
from tests.jobs.api.cast import PNG, Program, with_evidence


@pytest.fixture
def job(ada: Program) -> Job:
    return with_evidence(ada.submit().json()["job_id"])


def test_all_receipts_come_in_one_answer_linked_without_a_gap(ada: Program, job: Job) -> None:
    told = ada.get(f"/api/v1/jobs/{job.pk}/receipts").json()
    assert [one["eventType"] for one in told] == [
        "JobSubmitted",
        "JobStarted",
        "JobCompleted",
        "CredentialIssued",
        "UsageReceipt",
        "UsageAttested",
        "TokensMinted",
    ]
    own = [one for one in told if one["jobId"] == job.pk]
    assert [one["seq"] for one in own] == [1, 2, 3, 4, 5]
    assert [one["prev"] for one in own] == [None] + [one["nid"] for one in own[:-1]]
    assert all(one["jobId"] is None for one in told[5:])


def test_a_receipts_bytes_are_what_its_nid_names(ada: Program, job: Job) -> None:
    for one in ada.get(f"/api/v1/jobs/{job.pk}/receipts").json():
        assert nid(one["bytes"].encode()) == one["nid"]
        assert json.loads(one["bytes"]) == one["receipt"]
        assert ada.get(f"/api/v1/receipts/{one['nid']}").content == one["bytes"].encode()


def test_a_receipt_has_no_leaf_until_it_is_sequenced(ada: Program, job: Job) -> None:
    address = f"/api/v1/jobs/{job.pk}/receipts"
    assert {one["leaf"] for one in ada.get(address).json()} == {None}
    log.sequence()
    leaves = [one["leaf"] for one in ada.get(address).json()]
    assert None not in leaves
    assert [log.receipt_at(leaf).nid for leaf in leaves] == [one["nid"] for one in ada.get(address).json()]  # type: ignore[union-attr]


def test_the_queries_for_receipts_do_not_grow_with_them(ada: Program, job: Job) -> None:
    few = ada.submit().json()["job_id"]

    def queries(job_id: str) -> int:
        with CaptureQueriesContext(connection) as asked:
            assert ada.get(f"/api/v1/jobs/{job_id}/receipts").status_code == 200
        return len(asked)

    assert queries(job.pk) == queries(few) <= 5


def test_the_signed_file_is_given_as_it_is_kept(ada: Program, job: Job) -> None:
    answer = ada.get(f"/api/v1/jobs/{job.pk}/artifact")
    data = b"".join(answer.streaming_content)
    assert data == PNG
    assert answer["Content-Type"] == "image/png"
    assert answer["Content-Length"] == str(len(PNG))
    assert answer["Content-Disposition"] == f'attachment; filename="{job.pk}-picture.png"'
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert answer["Cache-Control"].startswith("private")
    assert answer["ETag"] == f'"{hashlib.sha256(data).hexdigest()}"'


def test_the_signed_file_is_sent_once_to_who_keeps_it(ada: Program, job: Job) -> None:
    address = f"/api/v1/jobs/{job.pk}/artifact"
    etag = ada.get(address)["ETag"]
    assert ada.get(address, **{"If-None-Match": etag}).status_code == 304


def test_a_picture_may_be_asked_for_as_a_picture(ada: Program, job: Job) -> None:
    assert ada.get(f"/api/v1/jobs/{job.pk}/artifact", Accept="image/png").status_code == 200


def test_one_of_several_files_is_asked_for_by_name(ada: Program, job: Job) -> None:
    assert ada.get(f"/api/v1/jobs/{job.pk}/artifact?name=picture.png").status_code == 200
    assert ada.get(f"/api/v1/jobs/{job.pk}/artifact?name=other.png").status_code == 404


def test_a_jobs_page_names_its_signed_files(ada: Program, job: Job) -> None:
    (told,) = ada.get(f"/api/v1/jobs/{job.pk}").json()["artifacts"]
    assert told == {
        "name": "picture.png",
        "sha256": hashlib.sha256(PNG).hexdigest(),
        "size": len(PNG),
        "mime": "image/png",
    }


@pytest.mark.parametrize("what", ["artifact", "tally"])
def test_evidence_that_is_still_to_come_is_not_yet(ada: Program, what: str) -> None:
    job_id = ada.submit().json()["job_id"]
    answer = ada.get(f"/api/v1/jobs/{job_id}/{what}")
    assert answer.status_code == 409
    assert answer.json()["type"] == "/api/v1/problems#not-yet"
    assert answer.json()["may_retry"] is True
    assert int(answer["Retry-After"]) >= 1


@pytest.mark.parametrize("state", [JobState.FAILED, JobState.CANCELLED])
def test_a_job_without_output_never_has_a_signed_file(ada: Program, state: str) -> None:
    job_id = ada.submit().json()["job_id"]
    Job.objects.filter(pk=job_id).update(state=state)
    answer = ada.get(f"/api/v1/jobs/{job_id}/artifact")
    assert answer.status_code == 404
    assert state in answer.json()["detail"]


def published(settings: Any) -> None:
    while log.turn().published is None:
        settings.CHECKPOINT_SECONDS = 0.0


def test_who_asks_for_a_tally_too_early_is_told_how_to_have_what_there_is(ada: Program, settings: Any) -> None:
    job_id = ada.submit().json()["job_id"]
    assert "?incomplete=true" in ada.get(f"/api/v1/jobs/{job_id}/tally").json()["detail"]
    published(settings)
    told = ada.get(f"/api/v1/jobs/{job_id}/tally?incomplete=true")
    assert told.status_code == 200, told.content


def test_the_tally_is_a_file_with_every_receipt(ada: Program, job: Job, settings: Any) -> None:
    published(settings)
    answer = ada.get(f"/api/v1/jobs/{job.pk}/tally")
    assert answer.status_code == 200, answer.content
    assert answer["Content-Type"] == "application/json"
    assert answer["Content-Disposition"] == f'attachment; filename="{job.pk}.tally.json"'
    told = json.loads(answer.content)
    receipts = ada.get(f"/api/v1/jobs/{job.pk}/receipts").json()
    assert [one["bytes"] for one in told["receipts"]] == [one["bytes"] for one in receipts]
    assert [one["leaf"] for one in told["receipts"]] == [one["leaf"] for one in receipts]


def test_a_tally_waits_for_the_last_piece_of_evidence_unless_it_is_not_asked_to(
    ada: Program, job: Job, settings: Any
) -> None:
    published(settings)
    Job.objects.filter(pk=job.pk).update(evidence=EvidenceState.MINT)
    waiting = ada.get(f"/api/v1/jobs/{job.pk}/tally")
    assert waiting.status_code == 409
    assert "mint" in waiting.json()["detail"]
    assert "?incomplete=true" in waiting.json()["detail"]
    assert ada.get(f"/api/v1/jobs/{job.pk}/tally?incomplete=true").status_code == 200


def test_where_there_is_a_chain_a_tally_waits_for_its_anchor(ada: Program, job: Job, settings: Any) -> None:
    published(settings)
    settings.CHAIN_RPC_URL = "http://127.0.0.1:9"
    waiting = ada.get(f"/api/v1/jobs/{job.pk}/tally")
    assert waiting.status_code == 409
    assert "next anchor; ?incomplete=true" in waiting.json()["detail"]
    assert ada.get(f"/api/v1/jobs/{job.pk}/tally?incomplete=true").status_code == 200


def test_the_owner_alone_shows_inputs_in_the_tally(ada: Program, job: Job, settings: Any) -> None:
    from jobs.models import User
    from tests.jobs.api.cast import person

    published(settings)
    address = f"/api/v1/jobs/{job.pk}/tally?disclose=prompt"
    (shown,) = json.loads(ada.get(address).content)["disclosed"]
    assert (shown["name"], shown["value"]) == ("prompt", "a red circle")
    assert person("cy", User.Role.AUDITOR).get(address).status_code == 403
    assert ada.get(f"/api/v1/jobs/{job.pk}/tally?disclose=secret").status_code == 422
