"""A job is followed by its page and in lists, and called off."""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from jobs.models import Job
from receipts.models import Receipt
from tests.jobs.api.cast import CIRCLE, Program

SHOWN = {"job_id", "nid", "kind", "model", "state", "attempt", "progress", "created_at", "started_at", "finished_at"}


def test_a_jobs_page_tells_where_it_stands_and_where_the_rest_is(ada: Program) -> None:
    told = ada.submit().json()
    page = ada.get(f"/api/v1/jobs/{told['job_id']}").json()
    assert page.keys() >= SHOWN | {"evidence", "failure_class", "links", "inputs", "salts", "promise"}
    assert (page["state"], page["attempt"], page["progress"]) == ("submitted", 0, {"step": 0, "steps": 5})
    assert page["created_at"] == told["created_at"]
    assert page["promise"] == told["promise"]
    assert page["links"].keys() == {"self", "receipts", "tally", "artifact", "cancel"}
    for name, address in page["links"].items():
        answer = ada.get(address.removeprefix("http://testserver"))
        assert answer.status_code == (405 if name == "cancel" else 409 if name in ("tally", "artifact") else 200)


def test_no_cache_keeps_what_one_caller_sees_for_the_next(ada: Program) -> None:
    job_id = ada.submit().json()["job_id"]
    for address in ("jobs", f"jobs/{job_id}", f"jobs/{job_id}/receipts", f"jobs/{job_id}/tally", "nowhere", "jobs?x=1"):
        answer = ada.get(f"/api/v1/{address}")
        assert answer.status_code == 404 or "private" in answer["Cache-Control"], address


def test_a_slash_at_the_end_changes_nothing(ada: Program) -> None:
    job_id = ada.submit().json()["job_id"]
    for address in ("/api/v1/jobs", f"/api/v1/jobs/{job_id}", f"/api/v1/jobs/{job_id}/receipts", "/api/v1/providers"):
        assert ada.get(address + "/").json() == ada.get(address).json()
    assert ada.post("/api/v1/jobs/", CIRCLE).status_code == 201


def test_lists_are_newest_first_in_pages(ada: Program) -> None:
    made = [ada.submit().json()["job_id"] for _ in range(5)]
    seen: list[str] = []
    address = "/api/v1/jobs?limit=2"
    while address:
        page = ada.get(address).json()
        assert len(page["results"]) <= 2
        seen += [job["job_id"] for job in page["results"]]
        address = (page["next"] or "").removeprefix("http://testserver")
    assert seen == made[::-1]


def test_a_list_costs_as_many_queries_for_many_jobs_as_for_one(ada: Program) -> None:
    def queries() -> int:
        with CaptureQueriesContext(connection) as asked:
            assert ada.get("/api/v1/jobs").status_code == 200
        return len(asked)

    ada.submit()
    one = queries()
    for _ in range(4):
        ada.submit()
    assert queries() == one == 2


def test_lists_are_filtered_by_state_and_kind(ada: Program) -> None:
    first = ada.submit().json()["job_id"]
    ada.submit()
    ada.post(f"/api/v1/jobs/{first}/cancel")
    found = ada.get("/api/v1/jobs?state=cancelled&kind=text-to-image").json()["results"]
    assert [job["job_id"] for job in found] == [first]
    assert ada.get("/api/v1/jobs?kind=zk-proof").json()["results"] == []


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("state=done", "state"),
        ("stat=running", "stat"),
        ("kind=x", "kind"),
        ("limit=0", "limit"),
        ("limit=1e3", "limit"),
    ],
)
def test_a_filter_that_does_not_exist_is_refused_not_ignored(ada: Program, query: str, field: str) -> None:
    answer = ada.get(f"/api/v1/jobs?{query}")
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == field


def test_an_unfinished_job_is_called_off_with_a_receipt(ada: Program) -> None:
    job_id = ada.submit().json()["job_id"]
    answer = ada.post(f"/api/v1/jobs/{job_id}/cancel")
    assert answer.status_code == 200
    assert answer.json()["state"] == "cancelled"
    assert Receipt.objects.filter(subject=job_id, event_type="JobCancelled").count() == 1


def test_a_finished_job_is_not_called_off(ada: Program) -> None:
    job_id = ada.submit().json()["job_id"]
    ada.post(f"/api/v1/jobs/{job_id}/cancel")
    answer = ada.post(f"/api/v1/jobs/{job_id}/cancel")
    assert answer.status_code == 409
    assert answer.json()["type"] == "/api/v1/problems#illegal-move"
    assert Receipt.objects.filter(subject=job_id, event_type="JobCancelled").count() == 1


def test_calling_off_takes_no_fields(ada: Program) -> None:
    job_id = ada.submit().json()["job_id"]
    assert ada.post(f"/api/v1/jobs/{job_id}/cancel", {"reason": "x"}).status_code == 422
    assert Job.objects.get(pk=job_id).state == "submitted"


def test_providers_are_listed_with_their_price_in_full(ada: Program) -> None:
    from jobs.market.providers import register_provider

    register_provider(
        slug="bo",
        name="Bo",
        tenant=ada.tenant,
        key_id="A" * 43,
        payout="0x" + "b0" * 20,
        kinds=["text-to-image"],
        unit_type="cpu_ms",
        price=10**30,
    )
    (bo,) = ada.get("/api/v1/providers").json()["results"]
    assert (bo["slug"], bo["price"], bo["kinds"]) == ("bo", str(10**30), ["text-to-image"])
    assert "tenant" not in bo
