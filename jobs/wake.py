"""Wake workers through the broker. A wake is a hint: losing all of them loses no job, the sweep finds the rows."""

import logging
import time

from django.conf import settings
from django.db import transaction
from django.utils.module_loading import import_string

log = logging.getLogger(__name__)
_SILENT_SECONDS = 10.0
_silent_until = 0.0


def hub(job_id: str) -> None:
    """Wake the hub for a job, once the transaction at hand is committed."""
    transaction.on_commit(lambda: _send("jobs.tasks.advance", "hub", [job_id]))


def provider(queue: str) -> None:
    """Wake a provider's workers, once the transaction at hand is committed."""
    transaction.on_commit(lambda: _send("jobs.tasks.work", queue, []))


def _send(task: str, queue: str, args: list[str]) -> None:
    global _silent_until
    if time.monotonic() < _silent_until:
        return
    from kombu.exceptions import OperationalError

    try:
        import_string(settings.CELERY_APP).send_task(task, args=args, queue=queue, expires=60, retry=False)
    except OperationalError as error:
        # The job's row is the message; the sweep delivers it. Asking a dead broker at each request would slow them all.
        _silent_until = time.monotonic() + _SILENT_SECONDS
        log.warning("broker unreachable, workers are woken by the sweep: %s", error)
