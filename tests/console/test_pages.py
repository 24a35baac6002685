"""Pages of single rows: what they say, and that they say so when something is not what it says."""

import json
from typing import Any

from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from jobs import lifecycle, pipeline
from jobs.job_page import version_of
from jobs.models import Job
from minting.models import Usage
from receipts.commits import commit_receipts
from receipts.models import ChainTransaction, Checkpoint, NumbersOrder, Receipt
from tests.console import house


def page_of(client: Client, job_id: str) -> str:
    answer = client.get(f"/admin/jobs/job/{job_id}/change/")
    assert answer.status_code == 200
    return answer.content.decode()


def tamper(receipt: Receipt, old: bytes, new: bytes) -> None:
    """Change a receipt's bytes as nobody can who is not the database's owner."""
    body = bytes(receipt.body)
    assert old in body
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL session_replication_role = replica")
        cursor.execute("UPDATE receipts_receipt SET body = %s WHERE id = %s", [body.replace(old, new), receipt.pk])
        cursor.execute("SET LOCAL session_replication_role = origin")


def test_a_jobs_page_tells_its_story_in_order(as_auditor: Client, done: str) -> None:
    answer = as_auditor.get(f"/admin/jobs/job/{done}/change/")
    told = [entry.type for entry in answer.context["page"].story]
    assert told == [
        "JobSubmitted",
        "JobScheduled",
        "JobStarted",
        *(["JobProgressUpdate"] if "JobProgressUpdate" in told else []),
        "JobCompleted",
        "CredentialIssued",
        "UsageReceipt",
        "Checkpoint",
    ]
    assert {entry.verdict.value for entry in answer.context["page"].story} == {"holds"}
    page = answer.content.decode()
    assert "a red circle" in page
    assert "Trusted under this house" in page
    for receipt in Receipt.objects.filter(subject=done):
        assert f'data-copy="{receipt.nid}"' in page
        assert f"/admin/receipts/receipt/{receipt.pk}/change/" in page


def test_every_claim_stands_with_who_would_have_to_lie_and_a_way_to_the_threat_model(
    as_auditor: Client, done: str
) -> None:
    answer = as_auditor.get(f"/admin/jobs/job/{done}/change/")
    page = answer.content.decode()
    verdicts = answer.context["page"].audit.verdicts
    assert len(verdicts) == 19
    for verdict in verdicts:
        assert f'<a href="/docs/threat-model#{verdict.claim}">' in page, verdict.claim


def test_a_changed_receipt_is_loud_and_its_field_is_named(as_auditor: Client, done: str) -> None:
    assert "ts-row-bad" not in page_of(as_auditor, done)
    receipt = Receipt.objects.get(subject=done, event_type="JobScheduled")
    tamper(receipt, b'"asks":1', b'"asks":2')
    page = page_of(as_auditor, done)
    assert "ts-row-bad" in page
    assert 'role="alert"' in page
    answer = as_auditor.get(f"/admin/jobs/job/{done}/change/")
    entries = {entry.type: entry.verdict.value for entry in answer.context["page"].story}
    assert "broken" in (entries["JobScheduled"], entries["Checkpoint"])
    own = as_auditor.get(f"/admin/receipts/receipt/{receipt.pk}/change/")
    assert own.context["nid_verdict"] == "broken"
    assert own.context["place"]["verdict"] == "holds", "the log holds the NID, which nobody changed"


def test_bytes_that_are_no_receipt_break_the_page_of_nobody(as_auditor: Client, done: str) -> None:
    receipt = Receipt.objects.get(subject=done, event_type="JobStarted")
    tamper(receipt, bytes(receipt.body), b"\xff{")
    assert "broken" in page_of(as_auditor, done)
    assert as_auditor.get(f"/admin/receipts/receipt/{receipt.pk}/change/").status_code == 200


def test_a_changed_picture_is_loud(as_auditor: Client, done: str) -> None:
    from provenance.models import Artifact
    from provenance.store import house_store

    artifact = Artifact.objects.get(subject=done, role=Artifact.Role.SIGNED)
    path = house_store().path_of(artifact.blob_id)
    data = bytearray(path.read_bytes())
    data[-40] ^= 1
    path.chmod(0o640)
    path.write_bytes(bytes(data))
    answer = as_auditor.get(f"/admin/jobs/job/{done}/change/")
    assert answer.context["page"].pictures[0].verdict.value == "broken"
    assert answer.context["page"].audit.of("artifact").verdict.value == "broken"


def test_a_waiting_job_is_shown_and_asks_for_news_until_it_is_over(as_auditor: Client, done: str) -> None:
    waiting = house.submit("a blue square", key="waits")
    page = page_of(as_auditor, waiting)
    assert "waiting for a provider" in page
    assert f'hx-get="/admin/jobs/job/{waiting}/now/?seen=' in page
    assert "hx-get" not in page_of(as_auditor, done)


def test_news_come_once(as_auditor: Client, done: str) -> None:
    waiting = house.submit("a blue square", key="waits")
    version = as_auditor.get(f"/admin/jobs/job/{waiting}/change/").context["version"]
    now = f"/admin/jobs/job/{waiting}/now/"
    assert as_auditor.get(f"{now}?seen={version}").status_code == 204
    pipeline.advance(waiting)
    news = as_auditor.get(f"{now}?seen={version}")
    assert news.status_code == 200
    assert "not started" in news.content.decode()
    assert "<html" not in news.content.decode()


def test_failed_and_cancelled_jobs_have_pages_as_good(as_auditor: Client, done: str) -> None:
    cancelled = house.submit("a blue square", key="c")
    lifecycle.cancel(job_id=cancelled, by="client")
    house.crank()
    page = page_of(as_auditor, cancelled)
    assert 'data-event="JobCancelled"' in page
    assert "nothing billed" in page


def test_a_picture_that_is_not_there_is_said_not_shown(as_auditor: Client, done: str) -> None:
    from provenance.models import Artifact
    from provenance.store import house_store

    artifact = Artifact.objects.get(subject=done, role=Artifact.Role.SIGNED)
    house_store().path_of(artifact.blob_id).unlink()
    assert page_of(as_auditor, done)
    assert as_auditor.get(f"/admin/jobs/job/{done}/artifact/{artifact.pk}/").status_code == 404


def test_the_tally_can_be_taken_away_once_everything_is_in_the_log(as_auditor: Client, done: str) -> None:
    answer = as_auditor.get(f"/admin/jobs/job/{done}/tally/")
    assert answer["Content-Disposition"] == f'attachment; filename="{done}.tally.json"'
    assert json.loads(answer.content)["job_id"] == done
    waiting = house.submit("a blue square", key="waits")
    assert f"/admin/jobs/job/{waiting}/tally/" not in page_of(as_auditor, waiting)
    sent_back = as_auditor.get(f"/admin/jobs/job/{waiting}/tally/", follow=True)
    assert "No tally yet" in sent_back.content.decode()


def test_a_jobs_page_costs_the_same_for_a_longer_story(as_auditor: Client, done: str) -> None:
    url = f"/admin/jobs/job/{done}/change/"
    as_auditor.get(url)
    with CaptureQueriesContext(connection) as told:
        as_auditor.get(url)
    assert len(told) <= 30
    later = house.submit("a green circle", key="later", steps=60)
    house.work_off(later)
    with CaptureQueriesContext(connection) as more:
        as_auditor.get(f"/admin/jobs/job/{later}/change/")
    assert len(more) == len(told)


def test_prompts_from_outside_are_text_and_nothing_else(as_auditor: Client, done: str) -> None:
    nasty = house.submit("<script>alert(1)</script>", key="nasty")
    page = page_of(as_auditor, nasty)
    assert "<script>alert(1)" not in page
    assert "&lt;script&gt;alert(1)" in page


def test_a_checkpoints_page_shows_the_note_as_published_and_who_signed(as_auditor: Client, done: str) -> None:
    checkpoint = Checkpoint.objects.order_by("-size").first()
    assert checkpoint is not None
    answer = as_auditor.get(f"/admin/receipts/checkpoint/{checkpoint.pk}/change/")
    assert checkpoint.note.splitlines()[2].replace("+", "&#x2B;") in answer.content.decode().replace("+", "&#x2B;")
    assert [one["verdict"] for one in answer.context["signatures"]] == ["holds"]


def test_a_receipts_page_leads_to_its_neighbours_and_proves_its_leaf(as_auditor: Client, done: str) -> None:
    receipt = Receipt.objects.get(subject=done, seq=2)
    answer = as_auditor.get(f"/admin/receipts/receipt/{receipt.pk}/change/")
    assert (answer.context["previous"].seq, answer.context["following"].seq) == (1, 3)
    assert answer.context["place"]["verdict"] == "holds"
    assert answer.context["raw"].encode() == bytes(receipt.body)


def test_a_usage_claims_page_says_whether_its_text_is_what_was_hashed(as_auditor: Client, done: str) -> None:
    usage = Usage.objects.get()
    url = f"/admin/minting/usage/{usage.pk}/change/"
    assert as_auditor.get(url).context["verdict_of_text"] == "holds"
    Usage.objects.filter(pk=usage.pk).update(text=usage.text.replace('"attempt":1', '"attempt":2'))
    assert as_auditor.get(url).context["verdict_of_text"] == "broken"


def test_every_change_page_of_the_console_opens(as_auditor: Client, done: str) -> None:
    for name in ("jobs/attempt", "jobs/provider", "jobs/apikey", "receipts/bundle", "receipts/publickey",
                 "receipts/tenant", "provenance/artifact", "provenance/credential"):  # fmt: skip
        rows = as_auditor.get(f"/admin/{name}/").context["cl"].result_list
        assert rows, name
        assert as_auditor.get(f"/admin/{name}/{rows[0].pk}/change/").status_code == 200, name


def test_simulated_work_says_so(as_auditor: Client, done: str) -> None:
    Job.objects.filter(pk=done).update(origin="simulated")
    assert "Nothing was computed" in page_of(as_auditor, done)


def test_a_file_that_holds_another_jobs_picture_is_no_proof_of_this_one(as_auditor: Client, done: str) -> None:
    from provenance.models import Artifact
    from provenance.store import house_store

    other = house.submit("a blue square", key="second")
    house.work_off(other)
    own, foreign = (Artifact.objects.get(subject=one, role=Artifact.Role.SIGNED) for one in (done, other))
    path = house_store().path_of(own.blob_id)
    path.chmod(0o640)
    path.write_bytes(house_store().path_of(foreign.blob_id).read_bytes())
    picture = as_auditor.get(f"/admin/jobs/job/{done}/change/").context["page"].pictures[0]
    assert picture.verdict.value == "broken"
    assert foreign.blob_id in picture.detail


def test_a_receipts_own_commit_stands_beside_it_whatever_order_the_chain_confirms(
    as_auditor: Client, settings: Any
) -> None:
    settings.COMMIT_POLICY, settings.REGISTER_ADDRESS = "each", "0x" + "7e" * 20
    settings.CHAIN_RPC_URL = "http://127.0.0.1:1"
    job_id = house.submit("a red circle")
    pipeline.advance(job_id)
    assert commit_receipts() == 2
    first, second = ChainTransaction.objects.filter(purpose="commit").order_by("id")
    ChainTransaction.objects.filter(pk=second.pk).update(state="final", hash="0x" + "22" * 32, block_number=7)
    answer = as_auditor.get(f"/admin/jobs/job/{job_id}/change/")
    told = [(entry.type, {fact.name: fact.value for fact in entry.facts}) for entry in answer.context["page"].story]
    assert [name for name, _ in told][:2] == ["JobSubmitted", "JobScheduled"]
    assert told[0][1]["Commit"] == "waits to be sent"
    assert (told[1][1]["Commit"], told[1][1]["Commit is"]) == ("0x" + "22" * 32, "final")
    before = version_of(Job.objects.get(pk=job_id))
    ChainTransaction.objects.filter(pk=first.pk).update(state="sent", hash="0x" + "11" * 32)
    assert version_of(Job.objects.get(pk=job_id)) != before
    assert "0x" + "11" * 32 in page_of(as_auditor, job_id)


def test_a_jobs_page_shows_what_was_committed_on_numbers_protocol(as_auditor: Client, done: str) -> None:
    assert "Numbers Protocol</h2>" not in page_of(as_auditor, done)
    receipt = Receipt.objects.get(subject=done, event_type="JobSubmitted")
    NumbersOrder.objects.create(
        network="testnet",
        purpose="register",
        door="commits",
        tenant_id=receipt.tenant_id,
        subject=done,
        receipt=receipt,
        asset=receipt.nid,
        statement="{}",
        digest="0" * 64,
        author="0x" + "44" * 20,
        file=b"",
        payload="{}",
        reason="the service can't be reached",
        due_at=timezone.now(),
    )
    text = page_of(as_auditor, done)
    assert "Numbers Protocol</h2>" in text
    assert "the service can&#x27;t be reached" in text
