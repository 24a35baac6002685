"""A job's moves: each is a row and a receipt, or neither; whoever lost the lease can't act."""

import json
from typing import Any

import pytest
from django.conf import settings

from jobs import lifecycle
from jobs.errors import (
    BadRequest,
    ClaimRefused,
    IdempotencyConflict,
    IllegalMove,
    LeaseLost,
    QueueFull,
)
from jobs.models import Attempt, Job, Provider
from jobs.states import AttemptState, EvidenceState, JobState
from provenance.models import Artifact
from receipts.canonical import decode_canonical, field_digest, nid, unb64url
from receipts.keys import Ed25519Signer, verify_text
from receipts.models import Pending, Receipt, Thread
from tests.jobs.cast import INPUTS, PNG, Bo, leased, let_the_lease_run_out, story, submit


def body(job_id: str, event_type: str) -> dict[str, Any]:
    receipt = Receipt.objects.filter(subject=job_id, event_type=event_type).latest("seq")
    value: dict[str, Any] = decode_canonical(bytes(receipt.body))
    return value


def test_a_submitted_job_has_its_receipt_and_the_hubs_promise(bo: Bo) -> None:
    job = Job.objects.get(pk=submit())
    receipt = Receipt.objects.get(subject=job.job_id)
    assert (job.state, job.attempt, job.nid) == (JobState.SUBMITTED, 0, receipt.nid)
    assert nid(bytes(receipt.body)) == receipt.nid
    assert Pending.objects.filter(receipt=receipt).exists()
    promise = json.loads(job.promise["claim"])
    assert (promise["nid"], promise["log"]) == (job.nid, settings.LOG_ORIGIN)
    verify_text(job.promise["claim"], job.promise["sig"])


def test_a_receipt_holds_salted_digests_and_no_word_of_the_prompt(bo: Bo) -> None:
    job = Job.objects.get(pk=submit())
    raw = bytes(Receipt.objects.get(subject=job.job_id).body)
    assert b"circle" not in raw
    digest = decode_canonical(raw)["data"]["inputs"]["prompt"]
    assert digest == field_digest("prompt", INPUTS["prompt"], unb64url(job.salts["prompt"]))


def test_the_same_idempotency_key_gives_the_first_answer_again(bo: Bo) -> None:
    first = submit(key="k")
    assert submit(key="k") == first
    assert Job.objects.count() == 1
    assert Receipt.objects.filter(event_type="JobSubmitted").count() == 1


def test_the_same_idempotency_key_with_another_body_is_refused(bo: Bo) -> None:
    submit(key="k")
    with pytest.raises(IdempotencyConflict):
        submit(key="k", fingerprint="e" * 64)
    assert Job.objects.count() == 1


def test_idempotency_keys_are_of_one_tenant(bo: Bo) -> None:
    assert submit("ada", key="k") != submit("mallory", key="k")


def test_a_full_queue_refuses_and_writes_nothing(bo: Bo, settings: Any) -> None:
    settings.QUEUE_LIMIT = 2
    submit()
    submit()
    with pytest.raises(QueueFull):
        submit()
    assert Job.objects.count() == 2 == Receipt.objects.filter(event_type="JobSubmitted").count()
    submit("mallory")  # another tenant's queue is its own


def test_a_signed_request_is_held_against_what_it_asks(bo: Bo) -> None:
    from jobs.claims import REQUEST, claim_text
    from receipts.keyring import add_key
    from receipts.models import Tenant

    signer = Ed25519Signer(b"a" * 32)
    salts = dict.fromkeys(INPUTS, "A" * 22)
    digests = {name: field_digest(name, value, bytes(16)) for name, value in INPUTS.items()}
    about = {
        "kind": "text-to-image",
        "model": "tiny-shapes",
        "hub": settings.LOG_ORIGIN,
        "nonce": "n" * 22,
        "at": "2026-11-21T07:00:52.310Z",
    }
    claim = claim_text(REQUEST, inputs=digests, **about)
    signed: dict[str, Any] = {
        "salts": salts,
        "claim": claim,
        "signature": {"alg": "Ed25519", "key_id": signer.key_id, "sig": ""},
    }
    from receipts.keys import sign_text

    signed["signature"] = sign_text(signer, claim)
    with pytest.raises(BadRequest, match=r"sig\.key_id"):  # a stranger's key
        submit(**signed)
    add_key(role="client", alg="Ed25519", key_id=signer.key_id, tenant=Tenant.objects.get(pk="mallory"))
    with pytest.raises(BadRequest, match=r"sig\.key_id"):  # another tenant's key
        submit(**signed)
    with pytest.raises(BadRequest, match=r"claim\.inputs"):  # another prompt than was signed
        submit("mallory", **signed, inputs=INPUTS | {"prompt": "a blue square"})
    with pytest.raises(BadRequest, match=r"claim\.kind"):
        submit("mallory", **signed, kind="upscaling")
    assert not Job.objects.exists()
    job = Job.objects.get(pk=submit("mallory", **signed))
    assert body(job.job_id, "JobSubmitted")["actor"] == f"client:{signer.key_id}"
    assert body(job.job_id, "JobSubmitted")["data"]["claim"] == claim


def test_a_job_lives_from_submission_to_completion(bo: Bo) -> None:
    job_id = submit()
    attempt = leased(job_id)
    bo.start(attempt)
    bo.progress(attempt, 5, 1)
    job = bo.complete(attempt)
    assert (job.state, job.evidence) == (JobState.COMPLETED, EvidenceState.CREDENTIAL)
    assert story(job_id) == ["JobSubmitted", "JobScheduled", "JobStarted", "JobProgressUpdate", "JobCompleted"]
    artifact = Artifact.objects.get(subject=job_id)
    assert (artifact.role, artifact.blob.size) == (Artifact.Role.OUTPUT, len(PNG))
    provider = Provider.objects.get()
    assert (provider.successes, provider.failures) == (1, 0)


def test_the_receipts_of_a_job_are_one_chain(bo: Bo) -> None:
    job_id = submit()
    attempt = leased(job_id)
    bo.start(attempt)
    bo.complete(attempt)
    receipts = list(Receipt.objects.filter(subject=job_id).order_by("seq"))
    bodies = [decode_canonical(bytes(receipt.body)) for receipt in receipts]
    assert [one["seq"] for one in bodies] == [1, 2, 3, 4]
    assert [one.get("prev") for one in bodies] == [None, *(receipt.nid for receipt in receipts[:-1])]
    assert {one.get("nid") for one in bodies[1:]} == {receipts[0].nid}
    assert Thread.objects.get(pk=job_id).head_nid == receipts[-1].nid


def test_whoever_lost_the_lease_cannot_complete(bo: Bo) -> None:
    job_id = submit()
    late = leased(job_id)
    bo.start(late)
    let_the_lease_run_out(late)
    with pytest.raises(LeaseLost):  # even before the sweep has noticed
        bo.complete(late)
    assert lifecycle.heartbeat(fencing=late.fencing) is False
    assert lifecycle.requeue(fencing=late.fencing) is not None
    again = leased(job_id)
    assert again.fencing > late.fencing
    bo.start(again)
    with pytest.raises(LeaseLost):
        bo.complete(late)
    bo.complete(again)
    assert story(job_id).count("JobCompleted") == 1
    assert body(job_id, "JobRequeued")["data"]["cause"] == "lease-lost"
    assert body(job_id, "JobCompleted")["attempt"] == 2


def test_a_heartbeat_keeps_the_lease(bo: Bo) -> None:
    attempt = leased(submit())
    bo.start(attempt)
    before = Attempt.objects.get(pk=attempt.pk).lease_until
    assert lifecycle.heartbeat(fencing=attempt.fencing) is True
    assert Attempt.objects.get(pk=attempt.pk).lease_until > before
    assert lifecycle.requeue(fencing=attempt.fencing) is None


def test_a_job_that_no_worker_survives_is_put_aside_after_three_attempts(bo: Bo) -> None:
    job_id = submit()
    for _ in range(3):
        attempt = leased(job_id)
        bo.start(attempt)
        let_the_lease_run_out(attempt)
        lifecycle.requeue(fencing=attempt.fencing)
    job = Job.objects.get(pk=job_id)
    assert (job.state, job.failure_class) == (JobState.FAILED, "poison")
    assert story(job_id)[-1] == "JobFailed"
    assert body(job_id, "JobFailed")["data"]["billed"] == "nothing"
    assert Attempt.objects.filter(state=AttemptState.LOST).count() == 3


def test_a_failure_that_may_pass_is_tried_again_and_one_that_may_not_is_final(bo: Bo) -> None:
    passing = submit()
    assert bo.fail(leased(passing), may_pass=True).state == JobState.SUBMITTED
    assert story(passing)[-1] == "JobRequeued"
    final = submit()
    attempt = leased(final)
    bo.start(attempt)
    assert bo.fail(attempt, may_pass=False, class_="bad-input").failure_class == "bad-input"
    assert story(final)[-1] == "JobFailed"


def test_a_cancelled_job_is_over_and_its_worker_is_told(bo: Bo) -> None:
    job_id = submit()
    attempt = leased(job_id)
    bo.start(attempt)
    assert lifecycle.cancel(job_id=job_id, by="client").state == JobState.CANCELLED
    assert lifecycle.heartbeat(fencing=attempt.fencing) is False
    with pytest.raises(LeaseLost):
        bo.complete(attempt)
    with pytest.raises(IllegalMove):
        lifecycle.cancel(job_id=job_id, by="client")
    assert story(job_id) == ["JobSubmitted", "JobScheduled", "JobStarted", "JobCancelled"]


def test_a_job_whose_time_has_passed_fails_as_expired(bo: Bo) -> None:
    job_id = submit(ttl_s=1)
    assert lifecycle.expire(job_id=job_id) is None
    Job.objects.filter(pk=job_id).update(expires_at="2020-01-01T00:00:00Z")
    expired = lifecycle.expire(job_id=job_id)
    assert expired is not None and expired.failure_class == "expired"
    assert story(job_id)[-1] == "JobFailed"


def test_a_provider_with_no_room_gets_no_second_job(bo: Bo) -> None:
    leased(submit())
    assert lifecycle.schedule(job_id=submit()) is None


def test_a_job_goes_to_the_better_ask(bo: Bo) -> None:
    from receipts.models import Tenant

    cheap = Bo(Tenant.objects.get(pk="house"), slug="bea", price=4, signer=Ed25519Signer(b"b" * 32))
    attempt = leased(submit())
    assert attempt.provider == cheap.provider
    assert body(attempt.job_id, "JobScheduled")["data"]["asks"] == 2


def test_nobody_serves_above_the_clients_price(bo: Bo) -> None:
    assert lifecycle.schedule(job_id=submit(max_price=9)) is None
    assert lifecycle.schedule(job_id=submit(max_price=10)) is not None


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"fencing": 10**6}, "fencing"),
        ({"attempt": 2}, "attempt"),
        ({"job_nid": "bafkrei" + "a" * 52}, "job_nid"),
        ({"job_id": "job_" + "0" * 26}, "job_id"),
        ({"provider": "A" * 43}, "provider"),
    ],
)
def test_a_claim_about_something_else_is_refused(bo: Bo, changes: dict[str, Any], rule: str) -> None:
    attempt = leased(submit())
    with pytest.raises(ClaimRefused, match=rule):
        bo.start(attempt, **changes)
    assert story(attempt.job_id) == ["JobSubmitted", "JobScheduled"]


def test_a_claim_signed_by_a_stranger_is_refused(bo: Bo) -> None:
    attempt = leased(submit())
    bo.signer = Ed25519Signer(b"m" * 32)
    with pytest.raises(ClaimRefused, match="is due"):
        bo.start(attempt)


def test_an_output_that_is_not_in_the_store_is_refused_and_nothing_is_written(bo: Bo) -> None:
    attempt = leased(submit())
    bo.start(attempt)
    with pytest.raises(ClaimRefused, match="not in the store"):
        bo.complete(attempt, keep=False)
    assert Job.objects.get().state == JobState.RUNNING
    assert not Artifact.objects.exists()
    assert story(attempt.job_id)[-1] == "JobStarted"


def test_a_move_without_its_receipt_does_not_happen(bo: Bo, monkeypatch: pytest.MonkeyPatch) -> None:
    attempt = leased(submit())

    def power_cut(**_: Any) -> None:
        raise ConnectionError("power cut")

    monkeypatch.setattr(lifecycle, "record", power_cut)
    with pytest.raises(ConnectionError):
        bo.start(attempt)
    assert Job.objects.get().state == JobState.SCHEDULED
    assert Attempt.objects.get().state == AttemptState.LEASED
