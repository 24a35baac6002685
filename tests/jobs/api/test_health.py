"""Health asks every engine at once, says which is sick, and never hangs."""

import threading
import time
from typing import Any

import pytest
from django.test import Client

from jobs.api import health
from jobs.api.health import Health, Sick


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Replace the engines' checks for one test."""

    def ask(**checks: Any) -> Any:
        monkeypatch.setattr("jobs.api.views.health", Health(checks))
        return Client().get("/api/v1/health")

    return ask


def test_a_house_whose_engines_answer_is_well(house: None, asked: Any) -> None:
    # The log is asked in a thread of its own, which does not see this test's transaction; it has a test below.
    answer = asked(**{name: check for name, check in health.CHECKS.items() if name != "log"})
    told = answer.json()
    assert answer.status_code == 200, told
    assert told["status"] == "ok"
    assert told["checks"].keys() == {"database", "broker", "chain"}
    assert "no chain is configured" in told["checks"]["chain"]["note"]


def test_one_sick_engine_makes_the_house_degraded(asked: Any) -> None:
    def sick() -> dict[str, Any]:
        raise Sick("does not answer")

    answer = asked(database=dict, broker=sick)
    assert answer.status_code == 503
    assert answer.json()["status"] == "degraded"
    assert answer.json()["checks"]["broker"] | {"ms": 0} == {"ok": False, "detail": "does not answer", "ms": 0}
    assert answer.json()["checks"]["database"]["ok"] is True
    assert "Retry-After" in answer


def test_an_engine_that_hangs_is_waited_for_two_seconds_and_asked_once(
    asked: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    hang, calls = threading.Event(), []

    def hanging() -> dict[str, Any]:
        calls.append(1)
        hang.wait(30)
        return {}

    try:
        began = time.monotonic()
        answer = asked(chain=hanging, database=dict)
        took = time.monotonic() - began
        assert answer.json()["checks"]["chain"] == {"ok": False, "detail": "no answer within 2 s"}
        assert health.DEADLINE_S <= took < health.DEADLINE_S + 2
        monkeypatch.setattr(health, "KEPT_S", 0.0)
        Client().get("/api/v1/health")
        assert len(calls) == 1
    finally:
        hang.set()


def test_answers_are_kept_for_a_second(asked: Any) -> None:
    calls = []

    def count() -> dict[str, Any]:
        calls.append(1)
        return {}

    asked(database=count)
    for _ in range(5):
        Client().get("/api/v1/health")
    assert len(calls) <= 2


def test_a_dead_broker_is_named_without_its_address(settings: Any) -> None:
    settings.CELERY_BROKER_URL = "redis+socket:///nowhere/secret.sock"
    with pytest.raises(Sick) as told:
        health.ask_broker()
    assert "secret" not in str(told.value)


def test_a_dead_chain_is_named_without_its_address(settings: Any) -> None:
    settings.CHAIN_RPC_URL = "http://127.0.0.1:9/key-in-the-url"
    with pytest.raises(Sick) as told:
        health.ask_chain()
    assert "key-in-the-url" not in str(told.value)


def test_a_log_that_stands_still_is_sick(house: None, monkeypatch: pytest.MonkeyPatch) -> None:
    state = health.ask_log()
    assert state["lag_s"] >= 0
    assert state["size"] == 0
    monkeypatch.setattr(health, "LAG_ALARM_S", -1.0)
    with pytest.raises(Sick, match="has waited"):
        health.ask_log()


@pytest.mark.django_db
def test_a_house_without_a_log_is_sick() -> None:
    with pytest.raises(Sick, match="no log has been founded"):
        health.ask_log()
