"""Wakes are hints: they go out together, hold nobody up, and are lost without harm."""

import os
import threading
from typing import Any

import pytest
from django.db import transaction
from kombu.exceptions import OperationalError

from jobs import tasks, wake
from jobs.wake import Wake, Waker


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[list[Wake]]:
    """What is sent, batch by batch, instead of to a broker."""
    batches: list[list[Wake]] = []
    monkeypatch.setattr(wake, "send", batches.append)
    return batches


@pytest.fixture
def waker(sent: list[list[Wake]], monkeypatch: pytest.MonkeyPatch) -> Waker:
    made = Waker()
    monkeypatch.setattr(wake, "_waker", made)
    return made


class Celery:
    """A Celery that notes what it is asked to send, or fails."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.asked: list[tuple[str, str, list[str]]] = []
        self.failure = failure

    def send_task(self, task: str, *, args: list[str], queue: str, **_: Any) -> None:
        self.asked.append((task, queue, args))
        if self.failure:
            raise self.failure


@pytest.fixture
def celery(monkeypatch: pytest.MonkeyPatch) -> Celery:
    made = Celery()
    monkeypatch.setattr(wake, "import_string", lambda _: made)
    monkeypatch.setattr(wake, "_silent_until", 0.0)
    return made


def test_wakes_of_one_moment_go_in_one_message_each_job_once(celery: Celery) -> None:
    wake.send(
        [
            ("jobs.tasks.advance", "hub", "job_a"),
            ("jobs.tasks.work", "provider-bo", ""),
            ("jobs.tasks.advance", "hub", "job_b"),
            ("jobs.tasks.work", "provider-bo", ""),
            ("jobs.tasks.advance", "hub", "job_a"),
        ]
    )
    assert celery.asked == [
        ("jobs.tasks.advance", "hub", ["job_a", "job_b"]),
        ("jobs.tasks.work", "provider-bo", []),
    ]


def test_a_dead_broker_is_asked_once_and_left_alone(celery: Celery, caplog: pytest.LogCaptureFixture) -> None:
    celery.failure = OperationalError("connection refused")
    for _ in range(3):
        wake.send([("jobs.tasks.advance", "hub", "job_a")])
    assert len(celery.asked) == 1
    assert "woken by the sweep" in caplog.text


def test_who_tells_waits_for_no_broker(waker: Waker, monkeypatch: pytest.MonkeyPatch) -> None:
    sending, go_on, batches = threading.Event(), threading.Event(), list[list[Wake]]()

    def hang(batch: list[Wake]) -> None:
        batches.append(batch)
        sending.set()
        assert go_on.wait(20)

    monkeypatch.setattr(wake, "send", hang)
    waker.tell(("t", "q", "1"))
    assert sending.wait(20)
    sending.clear()
    for number in ("2", "3", "4"):
        waker.tell(("t", "q", number))
    assert batches == [[("t", "q", "1")]]
    go_on.set()
    assert sending.wait(20)
    assert batches[1] == [("t", "q", "2"), ("t", "q", "3"), ("t", "q", "4")]


def test_what_still_waits_at_the_end_is_sent(waker: Waker, sent: list[list[Wake]]) -> None:
    waker._started = True  # as if its thread were busy
    waker.tell(("t", "q", "1"))
    waker.flush()
    assert sent == [[("t", "q", "1")]]


@pytest.mark.django_db(transaction=True)
def test_nobody_is_woken_for_what_was_rolled_back(waker: Waker, sent: list[list[Wake]]) -> None:
    waker._started = True
    with pytest.raises(RuntimeError), transaction.atomic():
        wake.hub("job_a")
        raise RuntimeError
    with transaction.atomic():
        wake.hub("job_b")
        wake.provider("provider-bo")
        waker.flush()
        assert sent == []  # it is not committed yet
    waker.flush()
    assert sent == [[("jobs.tasks.advance", "hub", "job_b"), ("jobs.tasks.work", "provider-bo", "")]]


def test_a_fork_sends_what_it_is_told_and_nothing_of_its_parents() -> None:
    read, write = os.pipe()
    wake._waker._started = True
    wake._waker.tell(("t", "q", "parent"))
    child = os.fork()
    if child == 0:  # pragma: no cover  another process
        told: list[Wake] = []
        done = threading.Event()

        def note(batch: list[Wake]) -> None:
            told.extend(batch)
            done.set()

        wake.send = note  # type: ignore[assignment]  # this process ends before anything else could use it
        wake._waker.tell(("t", "q", "child"))
        done.wait(20)
        os.write(write, repr(told).encode())
        os._exit(0)
    os.waitpid(child, 0)
    wake._waker.begin()
    assert os.read(read, 200) == b"[('t', 'q', 'child')]"


def test_a_job_that_can_not_be_advanced_keeps_no_other_back(monkeypatch: pytest.MonkeyPatch) -> None:
    advanced: list[str] = []

    def advance(job_id: str) -> None:
        if job_id == "job_b":
            raise ValueError("broken")
        advanced.append(job_id)

    monkeypatch.setattr("jobs.tasks.pipeline.advance", advance)
    with pytest.raises(ValueError, match="broken"):
        tasks.advance("job_a", "job_b", "job_c")
    assert advanced == ["job_a", "job_c"]
