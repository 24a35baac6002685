"""What another tenant owns isn't there: every address of the API is tried with a foreign key."""

from typing import Any

import pytest
from django.test import Client
from django.urls import get_resolver
from django.urls.resolvers import URLPattern, URLResolver

from jobs.models import Job, User
from receipts.models import Receipt
from tests.jobs.api.cast import CIRCLE, Program, person, with_evidence


def addresses() -> list[str]:
    """Every route below /api/v1/, with its slots still in it."""
    found: list[str] = []

    def walk(patterns: list[Any], before: str) -> None:
        for pattern in patterns:
            route = before + str(pattern.pattern)
            if isinstance(pattern, URLResolver):
                walk(pattern.url_patterns, route)
            elif isinstance(pattern, URLPattern):
                found.append("/" + route)

    walk(get_resolver().url_patterns, "")
    return [route for route in found if route.startswith("/api/v1/")]


def filled(route: str, job: Job, receipt: Receipt) -> str:
    return route.replace("<job:job_id>", job.pk).replace("<nid:nid>", receipt.nid)


# Addresses that name nothing of a tenant's: what they show is for everyone, or the caller's own.
NOT_ABOUT_A_TENANT = {
    "/api/v1/" + rest
    for name in ("", "jobs", "providers", "health", "openapi.json", "docs", "problems")
    for rest in ((name, name + "/") if name else ("",))
} | {
    "/api/v1/session/login/",
    "/api/v1/session/logout/",
    # The log shows every NID and type to everyone, and so do its proofs.
    "/api/v1/receipts/<nid:nid>.tlog-proof",
    "/api/v1/log/proof",
    "/api/v1/log/consistency",
}


def test_every_address_about_a_tenants_rows_hides_them_from_another(ada: Program, mallory: Program) -> None:
    job = with_evidence(ada.submit().json()["job_id"])
    receipt = Receipt.objects.get(nid=job.nid)
    tried = 0
    for route in addresses():
        if route in NOT_ABOUT_A_TENANT:
            continue
        address = filled(route, job, receipt)
        assert "<" not in address, f"{route} has a slot that this test doesn't fill"
        for method in ("get", "post", "put", "patch", "delete", "head"):
            foreign = getattr(mallory.http, method)(address, content_type="application/json")
            nobody = getattr(Client(), method)(address, content_type="application/json")
            assert foreign.status_code in (404, 405), (method, route, foreign.status_code)
            assert nobody.status_code in (401, 404, 405), (method, route, nobody.status_code)
            assert job.tenant_id.encode() not in foreign.content
            tried += foreign.status_code == 404
    assert tried >= 14
    job.refresh_from_db()
    assert job.state == "completed"


def test_the_owner_sees_each_of_those_addresses(ada: Program) -> None:
    job = with_evidence(ada.submit().json()["job_id"])
    receipt = Receipt.objects.get(nid=job.nid)
    for route in addresses():
        if route in NOT_ABOUT_A_TENANT:
            continue
        answers = {ada.get(filled(route, job, receipt)).status_code, ada.post(filled(route, job, receipt)).status_code}
        assert answers & {200, 409}, (route, answers)


def test_lists_hold_the_callers_own_jobs_alone(ada: Program, mallory: Program) -> None:
    ada.submit()
    own = mallory.submit().json()["job_id"]
    assert [job["job_id"] for job in mallory.get("/api/v1/jobs").json()["results"]] == [own]


def test_a_foreign_job_and_none_at_all_look_the_same(ada: Program, mallory: Program) -> None:
    job_id = ada.submit().json()["job_id"]
    missing = job_id[:-4] + "0000"
    foreign, none = mallory.get(f"/api/v1/jobs/{job_id}"), mallory.get(f"/api/v1/jobs/{missing}")
    assert foreign.json()["detail"].replace(job_id, "X") == none.json()["detail"].replace(missing, "X")


@pytest.mark.parametrize("role", [User.Role.AUDITOR, User.Role.OPERATOR])
def test_auditors_and_operators_of_the_house_read_all_and_change_nothing(ada: Program, role: str) -> None:
    unfinished = ada.submit().json()["job_id"]
    job = with_evidence(ada.submit().json()["job_id"])
    cy = person("cy", role)
    assert len(cy.get("/api/v1/jobs").json()["results"]) == 2
    for rest in ("", "/receipts", "/artifact"):
        assert cy.get(f"/api/v1/jobs/{job.pk}{rest}").status_code == 200
    assert cy.get(f"/api/v1/receipts/{job.nid}").status_code == 200
    token = {"X-CSRFToken": csrf_token(cy)}
    for address, body in (("/api/v1/jobs", CIRCLE), (f"/api/v1/jobs/{unfinished}/cancel", {})):
        answer = cy.post(address, body, content_type="application/json", headers=token)
        assert answer.status_code == 403
        assert "change nothing" in answer.json()["detail"]
    assert Job.objects.get(pk=unfinished).state == "submitted"


def test_prompts_and_salts_are_shown_to_their_owner_alone(ada: Program) -> None:
    job_id = ada.submit().json()["job_id"]
    assert ada.get(f"/api/v1/jobs/{job_id}").json()["inputs"]["prompt"] == "a red circle"
    shown = person("cy", User.Role.AUDITOR).get(f"/api/v1/jobs/{job_id}")
    assert b"red circle" not in shown.content
    assert "salts" not in shown.json()


def test_an_auditor_of_one_tenant_sees_that_tenant(ada: Program, mallory: Program) -> None:
    ada.submit()
    theirs = mallory.submit().json()["job_id"]
    watcher = person("watcher", User.Role.AUDITOR, mallory.tenant)
    assert [job["job_id"] for job in watcher.get("/api/v1/jobs").json()["results"]] == [theirs]


def test_a_person_without_tenant_or_office_sees_nothing(ada: Program) -> None:
    job_id = ada.submit().json()["job_id"]
    stranger = person("stranger", User.Role.CLIENT)
    assert stranger.get("/api/v1/jobs").json()["results"] == []
    assert stranger.get(f"/api/v1/jobs/{job_id}").status_code == 404


def test_a_person_of_a_tenant_submits_with_a_csrf_token_and_not_without(ada: Program) -> None:
    eve = person("eve", User.Role.CLIENT, ada.tenant)
    refused = eve.post("/api/v1/jobs", CIRCLE, content_type="application/json")
    assert refused.status_code == 403
    assert "CSRF" in refused.json()["detail"]
    assert not Job.objects.exists()
    taken = eve.post("/api/v1/jobs", CIRCLE, content_type="application/json", headers={"X-CSRFToken": csrf_token(eve)})
    assert taken.status_code == 201, taken.json()
    assert Job.objects.get().tenant_id == "ada"


def csrf_token(http: Client) -> str:
    page = http.get("/api/v1/jobs", headers={"Accept": "text/html"})
    assert page.status_code == 200
    return http.cookies["csrftoken"].value
