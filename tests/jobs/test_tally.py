"""A job's tally is built from its rows, checked by the verifier that everyone has, and never built too early."""

from datetime import timedelta

import pytest
from django.conf import settings
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from config.founding import register_keys
from jobs import lifecycle, pipeline
from jobs.admission import JobRequest
from jobs.audit import house_trust
from jobs.client.http import signed_request
from jobs.client.tally_format import read_tally
from jobs.client.verdicts import Word
from jobs.client.verify import EXIT_HOLDS, verify_tally
from jobs.errors import BadRequest, NotYet
from jobs.models import Job
from jobs.tally import build_tally, collect
from provenance.models import Credential
from provenance.store import house_store
from receipts import log
from receipts.keyring import add_key
from receipts.keys import ed25519_signer
from receipts.models import ChainTransaction, Checkpoint, Commit, Tenant, TransactionHash
from receipts.models.transactions import TransactionState
from tests.jobs.cast import INPUTS, Bo, leased

METER = {
    "wall_ms": {"value": 0, "quality": "measured", "source": "monotonic-clock"},
    "cpu_ms": {"value": 0, "quality": "measured", "source": "process-clock"},
}


@pytest.fixture
def bo_of_the_house(bo: Bo) -> Bo:
    """Bo, in a house whose keys are registered, as founding does it."""
    register_keys()
    ada = Tenant.objects.get(pk="ada")
    add_key(role="client", alg="Ed25519", key_id=ed25519_signer("client", settings.KEYS_DIR).key_id, tenant=ada)
    return bo


def ask() -> str:
    """Ask as Ada does: with her own key."""
    signer = ed25519_signer("client", settings.KEYS_DIR)
    signed = signed_request("text-to-image", INPUTS, model="tiny-shapes", signer=signer, hub=settings.LOG_ORIGIN)
    signature = signed.pop("sig")
    return lifecycle.submit(
        tenant_id="ada",
        request=JobRequest(kind="text-to-image", model="tiny-shapes", signature=signature, **signed),
        idempotency_key=None,
        fingerprint="f" * 64,
        actor="api-key:ts_test",
    ).job_id


def done(bo: Bo, *, steps: int = 2) -> Job:
    """Take a job to the end of its evidence, in a house without a chain."""
    attempt = leased(ask())
    bo.start(attempt)
    for step in range(1, steps + 1):
        bo.progress(attempt, step, step)
    bo.complete(attempt, meter=METER)
    pipeline.advance(attempt.job_id)
    return Job.objects.get(pk=attempt.job_id)


def picture() -> bytes:
    return house_store().path_of(Credential.objects.get().signed_id).read_bytes()


def test_a_finished_job_gives_a_tally_that_holds(bo_of_the_house: Bo) -> None:
    job = done(bo_of_the_house)
    log.turn()
    report = verify_tally(build_tally(job), house_trust(job), artifact=picture())
    assert report.exit_code == EXIT_HOLDS, [item for item in report.verdicts if item.verdict is not Word.HOLDS]
    assert report.of("attestation").verdict is Word.NOT_CLAIMED
    assert report.of("mint").verdict is Word.NOT_CLAIMED
    assert report.of("anchor").verdict is Word.NOT_CLAIMED


def test_the_tally_discloses_what_its_owner_chose_and_nothing_else(bo_of_the_house: Bo) -> None:
    job = done(bo_of_the_house)
    log.turn()
    told = read_tally(build_tally(job, disclose=["prompt", "prompt"]))
    assert [(item.name, item.value) for item in told.disclosed] == [("prompt", "a red circle")]
    assert b"a red circle" not in build_tally(job)
    report = verify_tally(build_tally(job, disclose=["prompt"]), house_trust(job), artifact=picture())
    assert report.of("disclosure").verdict is Word.HOLDS
    with pytest.raises(BadRequest, match="must be an input of this job"):
        build_tally(job, disclose=["colour"])


def test_before_a_checkpoint_covers_every_receipt_there_is_no_tally(bo_of_the_house: Bo) -> None:
    job = Job.objects.get(pk=ask())
    with pytest.raises(NotYet, match="1 of 1 receipts wait"):
        build_tally(job)
    log.sequence()
    with pytest.raises(NotYet, match="1 of 1"):
        build_tally(job)
    log.turn()
    assert len(read_tally(build_tally(job)).receipts) == 1
    lifecycle.cancel(job_id=job.job_id, by="client")
    with pytest.raises(NotYet, match="1 of 2"):
        build_tally(job)


@pytest.mark.parametrize("end", ["cancelled", "failed"])
def test_a_job_that_came_to_nothing_has_a_tally_as_good(bo_of_the_house: Bo, end: str) -> None:
    attempt = leased(ask())
    if end == "failed":
        bo_of_the_house.start(attempt)
        bo_of_the_house.fail(attempt, may_pass=False)
    else:
        lifecycle.cancel(job_id=attempt.job_id, by="client")
    log.turn()
    job = Job.objects.get(pk=attempt.job_id)
    report = verify_tally(build_tally(job), house_trust(job))
    assert not [item for item in report.verdicts if item.verdict is Word.BROKEN]
    assert end in report.of("receipts-chain").detail
    assert report.of("inclusion").verdict is Word.HOLDS
    assert report.of("artifact").verdict is Word.UNKNOWN


def test_an_attempt_that_failed_and_one_that_did_not_are_both_in_the_tally(bo_of_the_house: Bo) -> None:
    attempt = leased(ask())
    bo_of_the_house.start(attempt)
    bo_of_the_house.fail(attempt, may_pass=True)
    again = leased(attempt.job_id)
    bo_of_the_house.start(again)
    bo_of_the_house.complete(again, meter=METER)
    pipeline.advance(attempt.job_id)
    log.turn()
    job = Job.objects.get(pk=attempt.job_id)
    report = verify_tally(build_tally(job), house_trust(job), artifact=picture())
    assert report.exit_code == EXIT_HOLDS, [item for item in report.verdicts if item.verdict is not Word.HOLDS]


def test_building_takes_the_same_queries_however_long_the_story_is(bo_of_the_house: Bo) -> None:
    counts = []
    for steps in (0, 14):
        job = done(bo_of_the_house, steps=steps)
        log.turn()
        with CaptureQueriesContext(connection) as short:
            build_tally(job)
        counts.append(len(short))
    assert counts[0] == counts[1] <= 7


def anchored(size: int, state: TransactionState, mark: str) -> Commit:
    """Pretend that the checkpoint of this size was committed."""
    sent = ChainTransaction.objects.create(
        key=f"anchor:{mark}",
        purpose="anchor",
        chain_id=31337,
        sender="0x" + "5e" * 20,
        to="0x" + "7e" * 20,
        data=b"",
        state=state,
        hash="0x" + mark * 64,
    )
    TransactionHash.objects.create(
        hash=sent.hash, transaction=sent, raw=mark.encode(), max_fee_wei=1, max_priority_fee_wei=1
    )
    return Commit.objects.create(
        checkpoint=Checkpoint.objects.get(pk=size), asset_cid="x", commit_data="{}", transaction=sent
    )


def test_the_smallest_checkpoint_whose_anchor_is_final_carries_the_tally(bo_of_the_house: Bo) -> None:
    job = done(bo_of_the_house)
    sizes = []
    for _ in range(4):
        turn = log.turn()
        assert turn.published is not None
        sizes.append(turn.published)
        ask()

    def chosen() -> tuple[int, bytes | None]:
        found = collect(job)
        assert found.checkpoint is not None
        tally = read_tally(build_tally(job))
        assert tally.checkpoint == found.checkpoint.note
        return found.checkpoint.size, tally.anchor

    assert chosen() == (sizes[3], None)
    anchored(sizes[0], TransactionState.FAILED, "0")
    assert chosen() == (sizes[3], None)
    anchored(sizes[3], TransactionState.SENT, "3")
    assert chosen() == (sizes[3], b"3")
    anchored(sizes[2], TransactionState.FINAL, "2")
    assert chosen() == (sizes[2], b"2")
    anchored(sizes[1], TransactionState.FINAL, "1")
    assert chosen() == (sizes[1], b"1")


def test_an_anchor_from_before_the_last_receipt_does_not_carry_it(bo_of_the_house: Bo) -> None:
    job = Job.objects.get(pk=ask())
    before = log.turn().published
    assert before is not None
    anchored(before, TransactionState.FINAL, "a")
    lifecycle.cancel(job_id=job.job_id, by="client")
    after = log.turn().published
    found = collect(job)
    assert found.checkpoint is not None and found.checkpoint.size == after
    assert found.commit is None


def test_another_tenants_receipt_never_gets_into_a_tally(bo_of_the_house: Bo) -> None:
    job = done(bo_of_the_house)
    other = ask()
    log.turn()
    assert other.encode() not in build_tally(job)
    assert {item.subject for item in collect(job).receipts} == {job.job_id}


def test_times_and_leases_play_no_part_in_what_is_built(bo_of_the_house: Bo) -> None:
    job = done(bo_of_the_house)
    log.turn()
    first = build_tally(job)
    Job.objects.filter(pk=job.pk).update(expires_at=timezone.now() + timedelta(days=9), priority=7)
    assert build_tally(Job.objects.get(pk=job.pk)) == first
