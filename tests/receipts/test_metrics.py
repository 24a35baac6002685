"""The figures are what the rows say; what can't be measured is absent; nobody reads them without the token."""

import datetime as dt
import re
from pathlib import Path

import pytest
from django.test import Client
from django.utils import timezone
from pytest_django import Settings

from config.checks import settings_fit_together
from receipts.keys import make_key_file
from receipts.log import found_log, turn
from receipts.metrics import exposition
from receipts.models import ChainTransaction, Commit, LogHead, SenderStatus, Tenant
from receipts.models.transactions import Waiting
from tests.receipts.test_record import queries, write

TOKEN = "a token that only the scraper has"
SENDER = "0x" + "5e" * 20
# Source: Prometheus exposition formats, "Text-based format".
LINE = re.compile(
    r'# (HELP|TYPE) tallystick_[a-z_]+ .+|tallystick_[a-z_]+(\{[a-z]+="[^"\n]*"(,[a-z]+="[^"\n]*")*\})? -?[0-9.]+'
)


@pytest.fixture(autouse=True)
def house(tmp_path: Path, settings: Settings, db: None) -> None:
    settings.TLOG_DIR = tmp_path / "tlog"
    settings.KEYS_DIR = tmp_path / "keys"
    settings.CHECKPOINT_SECONDS = 0
    settings.METRICS_TOKEN = TOKEN
    settings.CHAIN_RPC_URL = "http://127.0.0.1:1"
    settings.CHAIN_ID = 31337
    make_key_file(settings.KEYS_DIR / "log.key", "ed25519")
    Tenant.objects.get_or_create(id="ada", defaults={"name": "Ada"})
    found_log("log.example/ada")


def figures() -> dict[str, float]:
    """Read the exposition back; every line must be of the format."""
    text = exposition()
    for line in text.splitlines():
        assert LINE.fullmatch(line), line
    pairs = [line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#")]
    found = {name.removeprefix("tallystick_"): float(value) for name, value in pairs}
    assert len(found) == len(pairs)
    return found


def transaction(key: str, state: str, **facts: object) -> ChainTransaction:
    """Put a transaction where it stands."""
    return ChainTransaction.objects.create(
        **{"key": key, "purpose": "commit", "chain_id": 31337, "data": b"", "state": state, **facts}
    )


# --- the door ------------------------------------------------------------------------------------------


def test_the_token_opens_the_door() -> None:
    answer = Client().get("/metrics", headers={"Authorization": f"Bearer {TOKEN}"})
    assert (answer.status_code, answer["Cache-Control"]) == (200, "no-store")
    assert answer["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert b"# TYPE tallystick_log_size gauge\ntallystick_log_size 0\n" in answer.content


@pytest.mark.parametrize(
    "authorization", ["", "Bearer", "Bearer ", "Bearer wrong", f"Basic {TOKEN}", f"Bearer {TOKEN}x", "Bearer \u00e9"]
)
def test_nothing_else_does(authorization: str) -> None:
    answer = Client().get("/metrics", headers={"Authorization": authorization} if authorization else {})
    assert (answer.status_code, answer["WWW-Authenticate"]) == (401, 'Bearer realm="metrics"')
    assert b"tallystick_" not in answer.content


def test_without_the_setting_there_is_no_such_door(settings: Settings) -> None:
    settings.METRICS_TOKEN = ""
    for authorization in ("Bearer ", "Bearer", f"Bearer {TOKEN}"):
        assert Client().get("/metrics", headers={"Authorization": authorization}).status_code == 404


def test_figures_are_read_and_never_written() -> None:
    assert Client().post("/metrics", headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 405


def test_a_token_that_can_be_guessed_is_refused(settings: Settings) -> None:
    settings.METRICS_TOKEN = "guess"
    assert "tallystick.E011" in {message.id for message in settings_fit_together()}


# --- the figures ---------------------------------------------------------------------------------------


def test_a_figure_that_can_not_be_measured_is_absent(settings: Settings) -> None:
    LogHead.objects.all().delete()
    settings.CHAIN_RPC_URL = ""
    found = figures()
    for name in ("log_size", "checkpoint_age_seconds", "anchor_lag_leaves", "anchor_lag_seconds", "commit_gas_today"):
        assert not any(key.startswith(name) for key in found), name
    assert not any(key.startswith(("sender_", "stuck_nonce")) for key in found)


def test_the_log_is_measured() -> None:
    write(occurred_at=timezone.now() - dt.timedelta(seconds=90))
    found = figures()
    assert 90 <= found["oldest_pending_receipt_age_seconds"] < 150
    assert found["log_size"] == 0
    turn()
    found = figures()
    assert (found["oldest_pending_receipt_age_seconds"], found["log_size"], found["checkpoint_size"]) == (0, 1, 1)
    assert 0 <= found["checkpoint_age_seconds"] < 60


def test_only_a_final_anchor_ends_the_lag() -> None:
    write()
    turn()
    sent = transaction("anchor", "mined", purpose="anchor")
    Commit.objects.create(checkpoint_id=1, asset_cid="log", commit_data="{}", transaction=sent)
    assert figures()["anchor_lag_leaves"] == 1
    ChainTransaction.objects.update(state="final")
    found = figures()
    assert (found["anchor_lag_leaves"], found["anchor_lag_seconds"]) == (0, 0)
    write("JobProgressUpdate", n=1)
    turn()
    assert figures()["anchor_lag_leaves"] == 1


def test_open_transactions_and_the_stuck_nonce_are_measured() -> None:
    an_hour_ago = timezone.now() - dt.timedelta(hours=1)
    transaction("waits", "intended")
    transaction("mint", "intended", purpose="mint")
    transaction("sent", "sent", sender=SENDER, nonce=4, sent_at=an_hour_ago)
    transaction("later", "sent", sender=SENDER, nonce=5, sent_at=timezone.now())
    transaction("over", "final", sender=SENDER, nonce=3)
    transaction("elsewhere", "intended", chain_id=1)
    found = figures()
    assert [found[f'open_transactions{{state="{state}"}}'] for state in ("intended", "sent", "mined")] == [2, 2, 0]
    assert (found['queue_length{purpose="commit"}'], found['queue_length{purpose="mint"}']) == (1, 1)
    assert 3600 <= found[f'stuck_nonce_age_seconds{{sender="{SENDER}"}}'] < 3700


def test_a_tenants_gas_is_that_of_today(settings: Settings) -> None:
    now = timezone.now()
    used = {"purpose": "commit", "tenant_id": "ada", "gas_limit": 40_000, "sender": SENDER}
    transaction("under way", "sent", sent_at=now, nonce=1, **used)
    transaction("mined", "mined", sent_at=now, nonce=2, gas_used=30_000, **used)
    transaction("yesterday", "final", sent_at=now - dt.timedelta(days=1), nonce=0, gas_used=30_000, **used)
    found = figures()
    assert found['commit_gas_today{tenant="ada"}'] == 70_000
    assert found["commit_gas_daily_bound"] == settings.COMMIT_GAS_DAILY


@pytest.mark.parametrize("reason", Waiting)
def test_each_reason_to_wait_is_flagged_by_its_word(reason: Waiting) -> None:
    status = SenderStatus.objects.create(
        sender=SENDER, chain_id=31337, waiting_for=reason, balance_wei=10**20, checked_at=timezone.now()
    )
    found = figures()
    flags = {each: found[f'sender_waiting{{sender="{SENDER}",reason="{each.value}"}}'] for each in Waiting}
    assert [each for each, flag in flags.items() if flag] == [reason]
    blind = reason in (Waiting.NO_KEY, Waiting.NODE, Waiting.WRONG_CHAIN)
    assert (f'sender_balance_wei{{sender="{SENDER}"}}' in found) is not blind
    status.checked_at = timezone.now() - dt.timedelta(hours=1)
    status.save()
    found = figures()
    assert not any(name.startswith(("sender_waiting", "sender_balance")) for name in found)
    assert found[f'sender_checked_age_seconds{{sender="{SENDER}"}}'] >= 3600


def test_the_queries_are_as_many_however_much_there_is() -> None:
    with queries() as few:
        exposition()
    for number in range(20):
        transaction(f"t{number}", "sent", sender=f"0x{number:040x}", nonce=number, sent_at=timezone.now())
        SenderStatus.objects.create(sender=f"0x{number:040x}", chain_id=31337, checked_at=timezone.now())
    with queries() as many:
        exposition()
    assert len(few) == len(many)
