"""Every error is a problem (RFC 9457): named, explained, without a trace."""

import json
import logging
from typing import Any

import pytest
from django.db import OperationalError
from django.test import Client

from config import problems
from jobs.api import views
from tests.jobs.api.cast import Program


def told(answer: Any) -> dict[str, Any]:
    assert answer["Content-Type"] == "application/problem+json", answer
    body: dict[str, Any] = json.loads(answer.content)
    assert body.keys() >= {"type", "title", "status", "detail", "may_retry"}
    assert body["status"] == answer.status_code
    return body


@pytest.mark.parametrize("method", ["put", "patch", "delete"])
def test_a_wrong_method_is_told_which_are_right(ada: Program, method: str) -> None:
    answer = getattr(ada.http, method)("/api/v1/jobs", content_type="application/json")
    assert told(answer)["status"] == 405
    assert {"GET", "POST"} <= {word.strip() for word in answer["Allow"].split(",")}


@pytest.mark.parametrize("address", ["/api/v1/nowhere", "/api/v1/jobs/job_1", "/api/v1/jobs/%00", "/tlog/nothing"])
def test_an_address_that_leads_nowhere_is_a_problem(ada: Program, address: str) -> None:
    assert told(ada.get(address))["status"] == 404


def test_elsewhere_an_address_that_leads_nowhere_is_a_page(house: None) -> None:
    assert Client().get("/nowhere")["Content-Type"].startswith("text/html")


def test_a_form_that_no_answer_has_is_refused(ada: Program) -> None:
    assert told(ada.get("/api/v1/jobs", Accept="application/xml"))["status"] == 406


def test_a_bug_tells_the_caller_nothing_and_the_log_everything(
    ada: Program, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(_: Any) -> Any:
        raise RuntimeError("password=hunter2 at /srv/secret.py")

    monkeypatch.setattr(views, "asked_jobs", broken)
    with caplog.at_level(logging.ERROR):
        answer = ada.get("/api/v1/jobs")
    assert told(answer)["type"] == "/api/v1/problems#our-fault"
    assert b"hunter2" not in answer.content
    assert b"Traceback" not in answer.content
    assert "hunter2" in caplog.text


def test_a_bug_outside_of_api_views_tells_nothing_either(house: None, monkeypatch: pytest.MonkeyPatch) -> None:
    from receipts.api import views as ledger

    def broken() -> Any:
        raise RuntimeError("hunter2")

    monkeypatch.setattr(ledger, "published_checkpoint", broken)
    answer = Client(raise_request_exception=False).get("/tlog/checkpoint")
    assert told(answer)["status"] == 500
    assert b"hunter2" not in answer.content


def test_a_database_that_is_away_may_be_tried_again(ada: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(_: Any) -> Any:
        raise OperationalError("connection to server at 10.0.0.5 failed")

    monkeypatch.setattr(views, "asked_jobs", away)
    answer = ada.get("/api/v1/jobs")
    assert told(answer)["may_retry"] is True
    assert answer.status_code == 503
    assert "Retry-After" in answer
    assert b"10.0.0.5" not in answer.content


def test_a_value_is_shown_cut_short() -> None:
    assert problems.cut("x" * 1000) == "x" * 80 + "…"
    assert problems.cut({"a": "y" * 1000}).startswith("{'a': 'yyy")
    assert len(problems.cut(["z" * 1000])) == 81
    assert [problems.cut(value) for value in (None, True, 7)] == [None, True, 7]


def test_every_problem_stands_in_the_table_that_its_type_leads_to(house: None) -> None:
    rows = Client().get("/api/v1/problems").json()
    assert {row["type"] for row in rows} == {problem.type for problem in problems.problems()}
    assert all(row["type"].startswith("/api/v1/problems#") for row in rows)
    assert len({row["slug"] for row in rows}) == len(rows)


def test_every_error_of_the_story_has_its_line_in_the_table() -> None:
    from jobs import errors

    by_workers = {errors.LeaseLost, errors.ClaimRefused}  # never raised behind a door of this API
    for error in errors.JobError.__subclasses__():
        if error not in by_workers:
            assert any(issubclass(error, kind) for kind, _ in problems.table()), error
