"""A real Chromium on a real server. Where none is found the tests are skipped, and say where it was looked for."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, sync_playwright

from jobs.models import User as Person
from tests.console import house
from tests.console.conftest import found

PLACES = (os.environ.get("CHROMIUM", ""), "/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome")


def chromium() -> str | None:
    """Where a Chromium is, if one is here: named by CHROMIUM, or at a usual place."""
    return next((place for place in PLACES if place and Path(place).is_file()), None)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark everything in this folder, and skip it where there is nothing to drive."""
    here = Path(__file__).parent
    missing = chromium() is None
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.browser)
            if missing:
                item.add_marker(pytest.mark.skip(reason="no Chromium at $CHROMIUM, /usr/bin/chromium or its like"))


@dataclass
class Watched:
    """A page, and everything that it did wrong: requests to elsewhere, errors, refusals."""

    page: Page
    base: str
    wrong: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.on("request", self._leaves)
        self.page.on("console", self._complains)
        self.page.on("pageerror", lambda error: self.wrong.append(f"error: {error}"))

    def _leaves(self, request: Request) -> None:
        if not request.url.startswith((self.base, "data:", "blob:")):
            self.wrong.append(f"leaves the host: {request.url}")

    def _complains(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.wrong.append(f"{message.type}: {message.text}")

    def go(self, path: str) -> Page:
        """Open a path of the house."""
        self.page.goto(self.base + path)
        return self.page

    def sign_in(self, who: str) -> Page:
        """Sign in by the form, as a person does."""
        page = self.go("/admin/login/")
        page.fill("#id_username", who)
        page.fill("#id_password", house.PASSWORD)
        page.click("button[type=submit]")
        page.wait_for_load_state("networkidle")
        return page


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """One Chromium for the run."""
    # Playwright's loop runs in this thread; Django would take its own calls here for calls from inside a loop.
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "true"
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(
            executable_path=chromium(), args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        )
        yield opened
        opened.close()
    del os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"]


@pytest.fixture
def founded(
    settings: Any, tmp_path: Path, transactional_db: None, monkeypatch: pytest.MonkeyPatch
) -> Iterator[dict[str, Person]]:
    """A house without a chain, which the server's thread sees too."""
    yield from found(settings, tmp_path, monkeypatch, chain_url="")


@pytest.fixture
def done(founded: dict[str, Person]) -> str:
    """A job that is complete, published in the log."""
    job_id = house.submit("a red circle", key="first")
    house.work_off(job_id)
    return job_id


@pytest.fixture
def watched(browser: Browser, live_server: Any) -> Iterator[Watched]:
    """A fresh window; whatever went wrong in it fails the test at its end."""
    context = browser.new_context(
        viewport={"width": 1440, "height": 950}, permissions=["clipboard-read", "clipboard-write"]
    )
    watch = Watched(context.new_page(), live_server.url)
    yield watch
    context.close()
    assert not watch.wrong, watch.wrong
