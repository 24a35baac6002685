"""The house judges its own jobs as anyone would: under way, failed or tampered with, and never by an exception."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.db import connection
from django.test.utils import CaptureQueriesContext

from jobs import lifecycle, pipeline
from jobs.audit import audit
from jobs.client.trust import CLAIMS
from jobs.client.verdicts import Word
from jobs.models import Job
from provenance.models import Credential
from provenance.store import house_store
from receipts import log
from receipts.models import Receipt
from receipts.models.transactions import TransactionState
from tests.jobs.cast import Bo, leased
from tests.jobs.test_tally import METER, anchored, ask, bo_of_the_house, done

__all__ = ["bo_of_the_house"]


@contextmanager
def past_the_guards() -> Iterator[None]:
    """Do what the database refuses: what whoever holds its superuser's password can do."""
    with connection.cursor() as cursor:
        cursor.execute("SET session_replication_role = replica")
        yield
        cursor.execute("SET session_replication_role = origin")


def tamper(event_type: str, old: bytes, new: bytes) -> Receipt:
    """Change a receipt's bytes in the database."""
    receipt = Receipt.objects.get(event_type=event_type)
    changed = bytes(receipt.body).replace(old, new)
    assert changed != bytes(receipt.body)
    with past_the_guards():
        Receipt.objects.filter(pk=receipt.pk).update(body=changed)
    return receipt


def broken(job: Job) -> dict[str, str | None]:
    return {item.claim: item.field for item in audit(job).broken}


def test_a_job_is_judged_at_every_station_of_its_way(bo_of_the_house: Bo) -> None:
    bo = bo_of_the_house
    job_id = ask()

    def holding() -> set[str]:
        told = audit(Job.objects.get(pk=job_id))
        assert [item.claim for item in told.verdicts] == list(CLAIMS)
        assert not told.broken, told.broken
        assert not told.faults
        return {item.claim for item in told.verdicts if item.verdict is Word.HOLDS}

    story = {"receipts-canonical", "receipts-chain", "idempotency-keys", "request-signed"}
    assert holding() == story
    log.turn()
    assert holding() == story | {"promise", "inclusion", "checkpoint"}
    attempt = leased(job_id)
    assert "inclusion" not in holding()
    bo.start(attempt)
    bo.progress(attempt, 1, 1)
    assert holding() >= story | {"work-signed"}
    bo.complete(attempt, meter=METER)
    assert holding() >= story | {"work-signed", "meter"}
    pipeline.advance(job_id)
    log.turn()
    assert holding() == story | {
        "work-signed", "promise", "inclusion", "checkpoint", "usage", "meter", "artifact", "credential",
    }  # fmt: skip


def test_a_cancelled_job_is_judged_as_far_as_it_came(bo_of_the_house: Bo) -> None:
    job_id = ask()
    lifecycle.cancel(job_id=job_id, by="client")
    log.turn()
    told = audit(Job.objects.get(pk=job_id))
    assert not told.broken
    assert told.of("receipts-chain").detail.startswith("2 receipts of one job linked without gap, cancelled")


def test_a_tampered_receipt_is_named_with_its_row(bo_of_the_house: Bo) -> None:
    job = done(bo_of_the_house)
    log.turn()
    receipt = tamper("JobCompleted", b'\\"seed\\":7', b'\\"seed\\":8')
    told = audit(job)
    assert {"work-signed", "inclusion", "receipts-chain"} <= {item.claim for item in told.broken}
    assert {claim for claim, _ in told.faults[receipt.pk]} >= {"work-signed", "inclusion"}
    untouched = Receipt.objects.get(event_type="JobStarted")
    assert untouched.pk not in told.faults


@pytest.mark.parametrize(
    ("old", "new"),
    [(b"{", b""), (b'"v":1', b'"v":"\xff"'), (b'"eventType"', b'"eventKind"'), (b'"seq":3', b'"seq":4')],
)
def test_bytes_that_are_no_receipt_any_more_are_named_too(bo_of_the_house: Bo, old: bytes, new: bytes) -> None:
    job = done(bo_of_the_house)
    log.turn()
    receipt = Receipt.objects.get(event_type="JobStarted")
    with past_the_guards():
        Receipt.objects.filter(pk=receipt.pk).update(body=bytes(receipt.body).replace(old, new, 1))
    told = audit(job)
    assert told.of("inclusion").verdict is Word.BROKEN
    assert "inclusion" in {claim for claim, _ in told.faults[receipt.pk]}


def test_a_receipt_that_is_gone_leaves_a_gap(bo_of_the_house: Bo) -> None:
    job = done(bo_of_the_house)
    log.turn()
    with past_the_guards():
        Receipt.objects.filter(event_type="JobScheduled").delete()
    assert "seq" in str(broken(job)["receipts-chain"])


def test_a_promise_that_is_nonsense_is_broken(bo_of_the_house: Bo) -> None:
    job = done(bo_of_the_house)
    nonsense: list[Any] = [{"claim": "x", "sig": {}}, {"claim": 7, "sig": "x"}, {}, []]
    for promise in nonsense:
        Job.objects.filter(pk=job.pk).update(promise=promise)
        assert audit(Job.objects.get(pk=job.pk)).of("promise").verdict is Word.BROKEN


def test_a_tampered_picture_in_the_store_is_broken(bo_of_the_house: Bo) -> None:
    job = done(bo_of_the_house)
    log.turn()
    path = house_store().path_of(Credential.objects.get().signed_id)
    data = bytearray(path.read_bytes())
    data[60] ^= 1
    path.chmod(0o640)
    path.write_bytes(data)
    assert broken(job).keys() == {"artifact", "credential"}
    path.unlink()
    told = audit(job)
    assert "the store" in told.of("artifact").detail
    assert told.of("artifact").verdict is Word.UNKNOWN


def test_tiles_that_were_changed_on_disk_are_broken(bo_of_the_house: Bo) -> None:
    job = done(bo_of_the_house)
    log.turn()
    for path in Path(settings.TLOG_DIR).rglob("*"):
        if path.is_file() and "tile/0" in path.as_posix():
            path.chmod(0o640)
            path.write_bytes(bytes(len(path.read_bytes())))
    assert broken(job)["inclusion"] == "receipts[0].bytes"
    for path in Path(settings.TLOG_DIR).rglob("*"):
        if path.is_file() and "tile/0" in path.as_posix():
            path.unlink()
    assert "inclusion" in broken(job)


@pytest.mark.parametrize(
    ("state", "word"),
    [
        (TransactionState.SENT, Word.UNKNOWN),
        (TransactionState.MINED, Word.UNKNOWN),
        (TransactionState.FINAL, Word.HOLDS),
    ],
)
def test_what_became_of_the_anchor_is_told_from_the_rows(
    bo_of_the_house: Bo, state: TransactionState, word: Word
) -> None:
    job = done(bo_of_the_house)
    size = log.turn().published
    assert size is not None
    anchored(size, state, "a")
    verdict = audit(job).of("anchor-on-chain")
    assert verdict.verdict is word
    assert state.value in verdict.detail
    assert "this house" in verdict.false_only_if


def test_without_published_keys_nothing_is_judged_and_nothing_breaks(bo_of_the_house: Bo) -> None:
    job = done(bo_of_the_house)
    (Path(settings.KEYS_DIR) / "root.key").unlink()
    told = audit(job)
    assert {item.verdict for item in told.verdicts} == {Word.UNKNOWN}
    assert "root key" in told.verdicts[0].detail


def test_judging_takes_the_same_queries_however_long_the_story_is(bo_of_the_house: Bo) -> None:
    counts = []
    for steps in (0, 14):
        job = done(bo_of_the_house, steps=steps)
        log.turn()
        with CaptureQueriesContext(connection) as asked:
            audit(job)
        counts.append(len(asked))
    assert counts[0] == counts[1] <= 13
