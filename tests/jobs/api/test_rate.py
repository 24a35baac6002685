"""Each key has its rate; a dead cache lets requests through and slows none of them."""

import time
from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser
from django.core.cache import caches
from django.test import RequestFactory
from redis.exceptions import ConnectionError as RedisGone
from rest_framework.request import Request
from rest_framework.settings import api_settings
from rest_framework.views import APIView

from jobs.api import throttling
from tests.jobs.api.cast import Program

HOUR = 3600


@pytest.fixture
def two_an_hour(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(api_settings.DEFAULT_THROTTLE_RATES, "api-key", "2/hour")
    if time.time() % HOUR > HOUR - 20:  # the window must not turn over while the test counts
        monkeypatch.setattr(time, "time", lambda: 0.0)


def test_more_than_the_rate_is_told_when_to_come_back(ada: Program, two_an_hour: None) -> None:
    assert [ada.get("/api/v1/jobs").status_code for _ in range(3)] == [200, 200, 429]
    answer = ada.get("/api/v1/jobs")
    assert answer.json()["type"] == "/api/v1/problems#too-many-requests"
    assert 1 <= int(answer["Retry-After"]) <= HOUR


def test_one_keys_rate_is_not_anothers(ada: Program, mallory: Program, two_an_hour: None) -> None:
    for _ in range(3):
        mallory.get("/api/v1/jobs")
    assert ada.get("/api/v1/jobs").status_code == 200


def test_a_new_window_counts_anew(ada: Program, monkeypatch: pytest.MonkeyPatch, two_an_hour: None) -> None:
    now = 0.0
    monkeypatch.setattr(time, "time", lambda: now)
    assert [ada.get("/api/v1/jobs").status_code for _ in range(3)] == [200, 200, 429]
    now = HOUR
    assert ada.get("/api/v1/jobs").status_code == 200


def test_a_dead_cache_lets_requests_through_and_is_asked_once(
    ada: Program, two_an_hour: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked = []

    def gone(*_: Any, **__: Any) -> int:
        asked.append(1)
        raise RedisGone("connection refused")

    monkeypatch.setattr(type(caches["default"]), "incr", gone)
    assert [ada.get("/api/v1/jobs").status_code for _ in range(5)] == [200] * 5
    assert len(asked) == 1
    assert "no rate limit holds" in caplog.text


@pytest.mark.parametrize("rate", ["", "600", "600/fortnight", "many/min", "-1/min"])
def test_a_rate_that_is_none_is_refused(rate: str) -> None:
    with pytest.raises(throttling.BadRate):
        throttling.read_rate(rate)


def test_rates_are_read() -> None:
    assert throttling.read_rate("600/min") == (600, 60)
    assert throttling.read_rate("5/hour") == (5, HOUR)


@pytest.mark.parametrize("limit", [1, 7, 100, 250, 399])
def test_several_processes_together_never_exceed_the_limit(limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(api_settings.DEFAULT_THROTTLE_RATES, "api-key", f"{limit}/day")
    caches["default"].clear()
    throttling.forget()
    processes = [throttling.Taken() for _ in range(3)]
    let_through = 0
    for turn in range(3 * limit + 30):
        monkeypatch.setattr(throttling, "taken", processes[turn % 3])
        let_through += throttling.ByApiKey().allow_request(asking(), APIView())
    assert let_through == limit


def asking() -> Request:
    request = Request(RequestFactory().get("/api/v1/jobs"))
    request.user = AnonymousUser()
    return request
