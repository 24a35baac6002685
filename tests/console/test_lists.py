"""Lists: found by whole keys, asked by questions, paged by key, and no dearer for being long."""

import datetime as dt
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from jobs import lifecycle
from jobs.models import Job
from jobs.models import User as Person
from minting.models import Usage
from provenance.models import Credential
from receipts.models import Receipt
from tests.console import house

LIST = "/admin/jobs/job/"


def shown(client: Client, query: str = "") -> list[str]:
    """The job ids that a page of the list shows, in its order."""
    answer = client.get(LIST + query)
    assert answer.status_code == 200
    return [job.pk for job in answer.context["cl"].result_list]


def test_a_job_is_found_by_anything_that_names_it(as_auditor: Client, done: str) -> None:
    other = house.submit("a blue square", key="second")
    usage, credential = Usage.objects.get(), Credential.objects.get()
    names = [
        done,
        f"={done}",
        f"  {done} ",
        Job.objects.get(pk=done).nid,
        Receipt.objects.get(subject=done, event_type="JobCompleted").nid,
        usage.receipt_hash,
        credential.signed_id,
        credential.unsigned_sha256,
        "first",
    ]
    for name in names:
        assert shown(as_auditor, f"?q={name}") == [done], name
    assert shown(as_auditor, f"?q={other[:20]}") == [], "part of a key is no key"


def test_a_search_uses_an_index(as_auditor: Client, done: str) -> None:
    with CaptureQueriesContext(
        connection,
    ) as told:
        assert shown(as_auditor, f"?q={done}") == [done]
    asked = next(q["sql"] for q in told.captured_queries if 'FROM "jobs_job"' in q["sql"])
    assert "UPPER(" not in asked and "LIKE" not in asked


def test_the_questions_choose_the_jobs_they_name(as_auditor: Client, done: str) -> None:
    waiting = house.submit("a blue square", signed=False, key="waits")
    failed = house.submit("a green circle", key="fails")
    Job.objects.filter(pk=failed).update(expires_at=timezone.now() - dt.timedelta(hours=1))
    lifecycle.expire(job_id=failed)
    late = house.submit("an orange circle", key="late")
    Job.objects.filter(pk=late).update(state="completed", evidence="mint")
    assert set(shown(as_auditor)) == {done, waiting, failed, late}
    for question, due in {
        "unfinished": {waiting},
        "waiting": {waiting},
        "lacking": {late},
        "unminted": {late},
        "failed": {failed},
        "unsigned": {waiting},
        "simulated": set(),
    }.items():
        assert set(shown(as_auditor, f"?q_job={question}")) == due, question
    assert shown(as_auditor, "?state__exact=failed") == [failed]


def many(count: int) -> list[str]:
    """Many jobs, some of the same instant, newest first."""
    template = Job.objects.get(pk=house.submit("a red circle", key="template"))
    now = timezone.now()
    rows = []
    for n in range(count):
        template.pk = f"job_{n:026d}"
        template.nid = f"nid{n:056d}"
        template.idempotency_key = None
        template.created_at = now - dt.timedelta(seconds=60 + n // 3)
        rows.append(Job(**{field.attname: getattr(template, field.attname) for field in Job._meta.concrete_fields}))
    Job.objects.bulk_create(rows)
    return list(Job.objects.order_by("-created_at", "-job_id").values_list("pk", flat=True))


def test_pages_go_on_by_key_forth_and_back_without_gap_or_repeat(as_auditor: Client) -> None:
    due = many(130)
    url, seen, pages = LIST, [], []
    for _ in range(5):
        changelist = as_auditor.get(url).context["cl"]
        pages.append([job.pk for job in changelist.result_list])
        seen += pages[-1]
        if not changelist.has_older:
            break
        url = LIST + changelist.older_url
    assert seen == due
    assert [len(page) for page in pages] == [50, 50, 31]
    back = LIST + changelist.newer_url
    again = as_auditor.get(back).context["cl"]
    assert [job.pk for job in again.result_list] == pages[1]
    assert again.has_older and again.has_newer


def test_a_crooked_cursor_leads_back_to_the_list(as_auditor: Client, done: str) -> None:
    for cursor in ("x", "x~y", "2026-01-01~a~b", "~"):
        assert as_auditor.get(f"{LIST}?after={cursor}").status_code == 302, cursor


def test_another_filter_starts_on_its_first_page(as_auditor: Client) -> None:
    many(60)
    changelist = as_auditor.get(LIST + as_auditor.get(LIST).context["cl"].older_url).context["cl"]
    assert "after" not in changelist.get_query_string({"q_job": "failed"})


@pytest.mark.parametrize("path", [LIST, "/admin/receipts/receipt/", "/admin/jobs/attempt/", "/admin/minting/usage/"])
def test_a_longer_list_costs_no_more_queries(path: str, as_auditor: Client, done: str) -> None:
    as_auditor.get(path)
    with CaptureQueriesContext(connection) as few:
        as_auditor.get(path)
    house.work_off(*(house.submit("a blue square", key=f"n{n}") for n in range(3)))
    with CaptureQueriesContext(connection) as more:
        as_auditor.get(path)
    assert len(more) == len(few)
    assert len(few) <= 10


def test_no_list_counts_a_whole_table(as_auditor: Client, done: str) -> None:
    for path in (LIST, "/admin/receipts/receipt/", "/admin/receipts/bundle/", "/admin/receipts/chaintransaction/"):
        with CaptureQueriesContext(connection) as told:
            as_auditor.get(path)
        assert not [q for q in told.captured_queries if "COUNT(" in q["sql"].upper()], path


def test_the_dashboard_costs_the_same_however_much_there_is(as_auditor: Client, done: str) -> None:
    as_auditor.get("/admin/")
    with CaptureQueriesContext(connection) as few:
        as_auditor.get("/admin/")
    many(60)
    with CaptureQueriesContext(connection) as more:
        page = as_auditor.get("/admin/")
    assert len(more) == len(few)
    assert len(few) <= 26
    assert page.context["morning"]["submitted"] == 61


def test_the_dashboard_of_an_unfounded_house_says_so(client: Client, db: None, settings: Any) -> None:
    client.force_login(Person.objects.create_user("cy", role="auditor"))
    assert "has not been founded" in client.get("/admin/").content.decode()
