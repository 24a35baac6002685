"""Numbers Protocol is turned on by settings alone, and settings that would do harm are refused."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from django.test import Client
from pytest_django import Settings

from config.celery import app
from config.checks import settings_fit_together
from receipts import tasks
from receipts.canonical import nid
from receipts.committers.capture import Capture, Endpoints, NoSuchAsset
from receipts.models import NumbersOrder
from tests.house.tree import ROOT
from tests.receipts.numbers.conftest import House


def found(settings: Settings, **changed: object) -> dict[str, str]:
    for name, value in changed.items():
        setattr(settings, name, value)
    return {error.id or "": error.msg for error in settings_fit_together()}


ON = {"NUMBERS_NETWORK": "mainnet", "CAPTURE_TOKEN": "a-token"}


def test_it_is_off_unless_it_is_turned_on(settings: Settings) -> None:
    assert settings.NUMBERS_NETWORK == "off"
    assert not {key for key in found(settings) if key >= "tallystick.E030" and key <= "tallystick.E039"}


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"NUMBERS_NETWORK": "Mainnet"}, "tallystick.E030"),
        ({"NUMBERS_COMMIT": "both"}, "tallystick.E031"),
        ({"NUMBERS_ASSET": "everything"}, "tallystick.E032"),
        ({"NUMBERS_EVENTS": ["JobDone"]}, "tallystick.E033"),
        ({"CHAIN_RPC_URL": "https://node.example.org", "CHAIN_ID": 10507}, "tallystick.E034"),
        (
            {"NUMBERS_NETWORK": "testnet", "CHAIN_RPC_URL": "https://node.example.org", "CHAIN_ID": 10507},
            "tallystick.E034",
        ),
        ({"NUMBERS_NETWORK": "mainnet", "CAPTURE_TOKEN": ""}, "tallystick.E035"),
        ({**ON, "NUMBERS_COMMIT": "chain"}, "tallystick.E036"),
        ({**ON, "CAPTURE_API_URL": "http://api.example.org"}, "tallystick.E037"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(
    settings: Settings, changed: dict[str, object], error: str
) -> None:
    assert error in found(settings, **changed)


def test_what_fits_together_is_not_refused(settings: Settings) -> None:
    assert not {key for key in found(settings, **ON) if key >= "tallystick.E030" and key <= "tallystick.E039"}


def test_the_token_comes_from_a_file_and_the_process_never_shows_it(tmp_path: Path) -> None:
    secret = tmp_path / "token"
    secret.write_text("capture-token-of-a-file")
    code = "from config import settings; print(settings.CAPTURE_TOKEN == 'capture-token-of-a-file')"
    environment = {**os.environ, "CAPTURE_TOKEN_FILE": str(secret)}
    environment.pop("CAPTURE_TOKEN", None)
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.stdout.strip() == "True", done.stderr


@pytest.mark.chain
def test_a_beat_turns_the_queue(house: House) -> None:
    scheduled = {entry["task"] for entry in app.conf.beat_schedule.values()}
    assert "receipts.tasks.turn_numbers" in scheduled
    house.job()
    tasks.turn_numbers()
    assert house.states() == ["sent"]


def test_turned_off_the_beat_asks_neither_database_nor_service() -> None:
    tasks.turn_numbers()  # without a database fixture: any query would raise


@pytest.mark.chain
def test_the_console_shows_every_attempt_and_why_an_order_waits(
    house: House, client: Client, django_user_model: type
) -> None:
    house.service.balances.clear()
    [told] = house.job()
    house.turn(2)
    client.force_login(django_user_model.objects.create_superuser("cy", password="a-long-password"))  # type: ignore[attr-defined]
    shown = client.get("/admin/receipts/numbersorder/").content.decode()
    assert "HTTP 401" in shown
    page = client.get(f"/admin/receipts/numbersorder/{house.order(told).pk}/change/").content.decode()
    assert page.count("Unauthorised: HTTP 401") == 2
    assert house.settings.CAPTURE_TOKEN not in shown + page
    assert "HTTP 401" in client.get("/admin/receipts/numbersplace/").content.decode()
    assert client.get(f"/admin/receipts/numbersorder/?q={house.order(told).asset}").status_code == 200
    assert NumbersOrder.objects.count() == 1


@pytest.mark.skipif(
    not os.environ.get("CAPTURE_TOKEN"),
    reason="CAPTURE_TOKEN is not in the environment: the service itself is not asked",
)
def test_the_service_itself_answers_as_the_stand_in_does(settings: Settings) -> None:
    """Reads alone: what would cost money is not done by a test."""
    at = Endpoints(
        settings.CAPTURE_API_URL, settings.CAPTURE_COMMIT_URL, settings.CAPTURE_HISTORY_URL, settings.CAPTURE_TREE_URL
    )
    capture = Capture(at, os.environ["CAPTURE_TOKEN"])
    nobodys = nid(os.urandom(32))
    with pytest.raises(NoSuchAsset):
        capture.asset(nobodys)
    assert capture.history(nobodys) == []
    if asset := os.environ.get("CAPTURE_ASSET"):  # an asset of that account, to see a history and a tree
        history = capture.history(asset)
        assert all(commit.asset_tree_cid and commit.tx_hash.startswith("0x") for commit in history)
        assert capture.tree(history[-1:])
