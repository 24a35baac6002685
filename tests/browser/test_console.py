"""The console in a real browser: it looks right, works offline, and lets nobody do what they may not."""

import re

import pytest
from playwright.sync_api import expect

from jobs import lifecycle, pipeline
from jobs.models import Job
from jobs.models import User as Person
from receipts.models import Receipt
from tests.browser.conftest import Watched
from tests.console import house


def test_an_auditor_signs_in_and_finds_the_failed_job(watched: Watched, done: str) -> None:
    failed = house.submit("a blue square", key="fails")
    lifecycle.cancel(job_id=failed, by="operator")
    Job.objects.filter(pk=failed).update(state="failed")
    page = watched.sign_in("auditor")
    expect(page.get_by_role("heading", name="This morning")).to_be_visible()
    page.locator("#nav-sidebar a[href='/admin/jobs/job/']").click()
    expect(page.locator("#result_list tbody")).to_have_count(2)
    page.get_by_label("Questions").get_by_role("link", name="Failed", exact=True).click()
    expect(page.locator("#result_list tbody")).to_have_count(1)
    page.locator("#result_list a").first.click()
    expect(page).to_have_url(re.compile(failed))


def test_a_jobs_page_shows_the_picture_and_every_verdict(watched: Watched, done: str) -> None:
    watched.sign_in("auditor")
    page = watched.go(f"/admin/jobs/job/{done}/change/")
    expect(page.get_by_role("heading", name="“a red circle”")).to_be_visible()
    picture = page.get_by_alt_text("The picture that was made for this job")
    expect(picture).to_be_visible()
    assert picture.evaluate("image => image.complete && image.naturalWidth") == 256
    events = page.locator(".ts-entry[data-event]").evaluate_all("all => all.map(one => one.dataset.event)")
    assert events[0] == "JobSubmitted" and events[-1] == "Checkpoint"
    chips = page.locator(".ts-entry [data-verdict]").evaluate_all("all => all.map(one => one.dataset.verdict)")
    assert set(chips) == {"holds"}
    expect(page.locator("#claims tbody tr")).to_have_count(19)


def test_a_hash_is_copied_whole_by_one_click(watched: Watched, done: str) -> None:
    watched.sign_in("auditor")
    page = watched.go(f"/admin/jobs/job/{done}/change/")
    nid = Receipt.objects.get(subject=done, event_type="JobCompleted").nid
    button = page.locator(f'.ts-entry [data-copy="{nid}"]')
    button.click()
    expect(button).to_have_attribute("data-state", "copied")
    assert page.evaluate("navigator.clipboard.readText()") == nid
    expect(button).not_to_have_attribute("data-state", "copied")


def test_copying_works_without_the_clipboards_interface_too(watched: Watched, done: str) -> None:
    watched.sign_in("auditor")
    watched.page.add_init_script("Object.defineProperty(navigator, 'clipboard', {value: undefined})")
    page = watched.go(f"/admin/jobs/job/{done}/change/")
    button = page.locator(f'.ts-id [data-copy="{done}"]')
    button.click()
    expect(button).to_have_attribute("data-state", "copied")


def test_a_running_job_shows_its_progress_without_being_asked(watched: Watched, done: str) -> None:
    waiting = house.submit("a green circle", key="later")
    watched.sign_in("auditor")
    page = watched.go(f"/admin/jobs/job/{waiting}/change/")
    expect(page.get_by_text("waiting for a provider")).to_be_visible()
    page.evaluate("window.unbroken = true")
    pipeline.advance(waiting)
    expect(page.get_by_text("not started").first).to_be_visible()
    house.work_off(waiting)
    expect(page.locator('[data-event="JobCompleted"]')).to_be_visible(timeout=15_000)
    expect(page.get_by_alt_text("The picture that was made for this job")).to_be_visible(timeout=15_000)
    assert page.evaluate("window.unbroken"), "it came without a reload"


def test_the_tally_comes_as_a_file(watched: Watched, done: str) -> None:
    watched.sign_in("auditor")
    page = watched.go(f"/admin/jobs/job/{done}/change/")
    with page.expect_download() as told:
        page.get_by_role("link", name="Download tally").click()
    assert told.value.suggested_filename == f"{done}.tally.json"


def test_an_auditor_finds_nothing_to_change(watched: Watched, done: str) -> None:
    watched.sign_in("auditor")
    receipt = Receipt.objects.filter(subject=done).first()
    assert receipt is not None
    for path in (
        "/admin/jobs/job/",
        f"/admin/jobs/job/{done}/change/",
        f"/admin/receipts/receipt/{receipt.pk}/change/",
        "/admin/jobs/provider/",
        "/admin/jobs/apikey/",
        "/admin/receipts/chaintransaction/",
    ):
        page = watched.go(path)
        for name in ("Save", "Delete", "Add", "Run", "Save and continue editing"):
            expect(page.get_by_role("button", name=name, exact=True)).to_have_count(0)
        expect(page.locator("input.action-select, a[href$='/add/'], a[href$='/delete/']")).to_have_count(0)
        expect(page.get_by_role("link", name="People")).to_have_count(0)


def test_a_client_is_refused_at_the_door(watched: Watched, founded: dict[str, Person]) -> None:
    page = watched.sign_in("client")
    expect(page).to_have_url(re.compile("/admin/login/"))
    expect(page.get_by_text("Please enter the correct")).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_page_leaves_the_host_or_complains(watched: Watched, done: str, scheme: str) -> None:
    watched.page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    watched.sign_in("op")
    receipt = Receipt.objects.filter(subject=done).first()
    assert receipt is not None
    for path in (
        "/admin/",
        "/admin/jobs/job/",
        f"/admin/jobs/job/{done}/change/",
        f"/admin/receipts/receipt/{receipt.pk}/change/",
        "/admin/receipts/checkpoint/",
        "/admin/minting/usage/",
        "/admin/jobs/user/",
        "/admin/jobs/user/add/",
        "/admin/password_change/",
    ):
        page = watched.go(path)
        page.wait_for_load_state("networkidle")
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth + 1"), f"{path} is too wide"
        assert page.evaluate("document.documentElement.classList.contains('dark')") is (scheme == "dark"), path


def test_the_jobs_page_fits_a_telephone(watched: Watched, done: str) -> None:
    watched.sign_in("auditor")
    watched.page.set_viewport_size({"width": 390, "height": 844})
    page = watched.go(f"/admin/jobs/job/{done}/change/")
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth + 1")
    expect(page.get_by_alt_text("The picture that was made for this job")).to_be_visible()
