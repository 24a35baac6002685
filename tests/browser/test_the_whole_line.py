"""One job on a real chain: its page tells everything from request to mint, and each step leads on."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from jobs.models import User as Person
from minting.models import Usage
from receipts.log import leaf_index
from receipts.models import Commit
from receipts.models.transactions import TransactionState
from tests.browser.conftest import Watched
from tests.console import house
from tests.console.conftest import found
from tests.flow.turns import turn_until

pytestmark = pytest.mark.chain


@pytest.fixture
def founded(
    settings: Any, tmp_path: Path, transactional_db: None, monkeypatch: pytest.MonkeyPatch, chain_url: str
) -> Iterator[dict[str, Person]]:
    """A house with contracts on the run's chain."""
    yield from found(settings, tmp_path, monkeypatch, chain_url=chain_url)


def test_from_request_to_mint_everything_holds_and_is_linked(watched: Watched, founded: dict[str, Person]) -> None:
    job_id = house.submit("a red circle", key="first")
    house.work_off(job_id)
    turn_until(lambda: house.is_complete(job_id))
    minted = Usage.objects.get().minted_receipt
    assert minted is not None
    leaf = turn_until(lambda: leaf_index(minted.pk))
    final = Commit.objects.filter(checkpoint__size__gt=leaf, transaction__state=TransactionState.FINAL)
    turn_until(final.exists)

    watched.sign_in("auditor")
    page = watched.go(f"/admin/jobs/job/{job_id}/change/")
    words = page.locator("#claims [data-verdict]").evaluate_all("all => all.map(one => one.dataset.verdict)")
    assert set(words) == {"holds", "not claimed"}
    unclaimed = page.locator("#claims tr", has=page.locator("[data-verdict='not claimed']"))
    assert set(unclaimed.evaluate_all("all => all.map(one => one.dataset.claim)")) == {"witnesses", "disclosure"}
    events = page.locator(".ts-entry[data-event]").evaluate_all("all => all.map(one => one.dataset.event)")
    assert events.index("UsageAttested") < events.index("TokensMinted")
    assert "Anchor" in events

    page.locator('[data-event="TokensMinted"]').get_by_role("link", name="0x").click()
    expect(page.get_by_role("heading", name="Mint final")).to_be_visible()
    expect(page.get_by_text("receiptHash")).to_be_visible()
    expect(page.locator("[aria-current=step]")).to_contain_text("final")
    page.get_by_role("link", name="Usage claim").click()
    expect(page.locator("[aria-current=step]")).to_contain_text("minted")
    page.go_back()
    page.go_back()
    page.locator('[data-event="Anchor"]').first.get_by_role("link", name="0x").click()
    expect(page.get_by_text("commit(string assetCid, string commitData)")).to_be_visible()
    page.get_by_role("link", name="Checkpoint of").click()
    expect(page.get_by_text("The note, exactly as published")).to_be_visible()
    expect(page.locator("[data-verdict=holds]").first).to_be_visible()
