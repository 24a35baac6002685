"""Wake workers through the broker. A wake is a hint: losing all of them loses no job, the sweep finds the rows.

A thread of each process sends them, several in one message: to send one costs more than to write a job's row,
and a request waits for neither the broker nor Celery.
"""

import atexit
import logging
import os
import time
from queue import Empty, SimpleQueue
from threading import Lock, Thread
from typing import Final

from django.conf import settings
from django.db import transaction
from django.utils.module_loading import import_string

log = logging.getLogger(__name__)
Wake = tuple[str, str, str]  # task, queue, argument; without one it is empty
PAUSE_SECONDS: Final = 0.05  # what comes within it after a message goes together in the next one
_AT_ONCE: Final = 200
_SILENT_SECONDS: Final = 10.0
_silent_until = 0.0


def hub(job_id: str) -> None:
    """Wake the hub for a job, once the transaction at hand is committed."""
    transaction.on_commit(lambda: _waker.tell(("jobs.tasks.advance", "hub", job_id)))
    if settings.COMMIT_POLICY == "each":
        chain()


def provider(queue: str) -> None:
    """Wake a provider's workers, once the transaction at hand is committed."""
    transaction.on_commit(lambda: _waker.tell(("jobs.tasks.work", queue, "")))
    if settings.COMMIT_POLICY == "each":
        chain()


def chain() -> None:
    """Wake the sender, once the transaction at hand is committed: a receipt waits to be committed by itself."""
    transaction.on_commit(lambda: _waker.tell(("receipts.tasks.turn_chain", "hub", "")))


class Waker:
    """Hands wakes to a thread, which is started by the first one."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Stand as in a new process: a fork copies neither the thread nor the right to send what waits."""
        self._waiting: SimpleQueue[Wake] = SimpleQueue()
        self._starting = Lock()
        self._started = False

    def tell(self, wake: Wake) -> None:
        """Have a wake sent soon. Never waits."""
        self._waiting.put(wake)
        with self._starting:
            if not self._started:
                self._started = True
                Thread(target=self._run, name="wake", daemon=True).start()

    def flush(self) -> None:
        """Send what waits, in the calling thread."""
        while batch := self._taken():
            send(batch)

    def _run(self) -> None:
        while True:
            batch = [self._waiting.get(), *self._taken()]
            send(batch)
            time.sleep(PAUSE_SECONDS)

    def _taken(self) -> list[Wake]:
        found: list[Wake] = []
        try:
            while len(found) < _AT_ONCE:
                found.append(self._waiting.get_nowait())
        except Empty:
            return found
        return found


def send(wakes: list[Wake]) -> None:
    """Send one message for each task and queue, with all its arguments. A broker that is away is left alone a while."""
    global _silent_until
    if time.monotonic() < _silent_until:
        return
    from kombu.exceptions import OperationalError

    told: dict[tuple[str, str], dict[str, None]] = {}
    for task, queue, argument in wakes:
        told.setdefault((task, queue), {})[argument] = None
    try:
        for (task, queue), arguments in told.items():
            args = [argument for argument in arguments if argument]
            import_string(settings.CELERY_APP).send_task(task, args=args, queue=queue, expires=60, retry=False)
    except OperationalError as error:
        # The job's row is the message; the sweep delivers it. Asking a dead broker at each turn would slow them all.
        _silent_until = time.monotonic() + _SILENT_SECONDS
        log.warning("broker unreachable, workers are woken by the sweep: %s", error)


_waker = Waker()
atexit.register(_waker.flush)
os.register_at_fork(after_in_child=_waker.begin)
