"""Outside the console no page runs a script that stands in it or was made from text; and every page works."""

import json

import pytest
from django.test import Client
from playwright.sync_api import expect

from jobs.models import Job
from jobs.models import User as Person
from tests.browser.conftest import Watched
from tests.console import house
from tests.jobs.api.cast import CIRCLE

# What each page shows once it is there. Chromium reports what a policy refuses; `watched` fails the test for it.
PAGES = {
    "/docs/": "Guide",
    "/docs/threat-model": "Threat model",
    "/docs/decisions": "Decisions",
    "/api/v1/": "Tallystick API",
    "/api/v1/problems": "Problems",
    "/api/v1/health": "Health",
    "/api/v1/docs": "Submit GPU work",
    "/api/v1/session/login/": "Log in",
    "/admin/login/": "GPU work, with evidence",
}


@pytest.mark.parametrize(("path", "shows"), PAGES.items())
def test_a_page_keeps_to_its_policy(watched: Watched, founded: dict[str, Person], path: str, shows: str) -> None:
    page = watched.go(path)
    expect(page.get_by_text(shows).first).to_be_visible()
    page.wait_for_load_state("networkidle")


@pytest.mark.parametrize("path", [path for path in PAGES if not path.startswith("/admin/")] + ["/nowhere"])
def test_scripts_come_from_the_house_alone(founded: dict[str, Person], path: str) -> None:
    answer = Client(headers={"Accept": "text/html"}).get(path)
    policy = dict(part.split(" ", 1) for part in answer["Content-Security-Policy"].split("; "))
    assert policy["script-src"] == "'self'"


def sign_in_to_the_api(watched: Watched) -> None:
    page = watched.go("/api/v1/session/login/?next=/api/v1/jobs")
    page.fill("#id_username", "client")
    page.fill("#id_password", house.PASSWORD)
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("heading", name="Jobs")).to_be_visible()


def test_a_person_submits_a_job_by_the_form(watched: Watched, founded: dict[str, Person]) -> None:
    sign_in_to_the_api(watched)
    page = watched.page
    page.get_by_role("button", name="POST").click()
    expect(page.locator(".response-info")).to_contain_text("201 Created")
    page.get_by_role("link", name="GET").click()
    expect(page.locator(".response-info")).to_contain_text(Job.objects.get().pk)


def test_a_person_leaves(watched: Watched, founded: dict[str, Person]) -> None:
    sign_in_to_the_api(watched)
    page = watched.go("/api/v1/")
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_role("link", name="Log in")).to_be_visible()


def test_a_person_submits_a_job_from_the_description(watched: Watched, founded: dict[str, Person]) -> None:
    sign_in_to_the_api(watched)
    page = watched.go("/api/v1/docs")
    deed = page.locator("#operations-jobs-jobs_create")
    deed.locator(".opblock-summary-control").click()
    deed.get_by_role("button", name="Try it out").click()
    deed.locator("textarea").fill(json.dumps(CIRCLE))
    deed.get_by_role("button", name="Execute").click()
    expect(deed.locator(".live-responses-table .response-col_status").last).to_contain_text("201")
    assert Job.objects.count() == 1
