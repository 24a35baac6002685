"""What Celery wakes for jobs. A message is a hint; each task reads PostgreSQL to see what there is to do."""

import logging
import os
from typing import Any

from celery import shared_task
from celery.signals import worker_init
from django.conf import settings

from jobs import pipeline

log = logging.getLogger(__name__)


@shared_task(ignore_result=True)
def advance(*job_ids: str) -> None:
    """Take jobs as far as they go now. One that fails does not keep back the others."""
    failed: Exception | None = None
    for job_id in job_ids:
        try:
            pipeline.advance(job_id)
        except Exception as error:
            log.exception("job %s could not be advanced", job_id)
            failed = error
    if failed is not None:
        raise failed


@shared_task(ignore_result=True)
def sweep() -> None:
    """Find what no message told of: waiting jobs, lost leases, missing evidence."""
    pipeline.sweep()


@shared_task(ignore_result=True)
def work() -> None:
    """Do the work that is leased to this worker's provider."""
    from jobs import worker

    worker.work(os.environ["TALLYSTICK_PROVIDER"])


@worker_init.connect
def warm_up(**_: Any) -> None:
    """Load the house's model before the first job, in a worker that owns a device."""
    if not os.environ.get("TALLYSTICK_PROVIDER"):
        return
    from jobs import worker
    from jobs.runners.base import RunnerError

    worker.sweep_workdirs()
    try:
        worker.warm_runner("text-to-image", settings.DEFAULT_MODEL)
    except RunnerError:
        # The worker still serves other models; a job for this one fails with its class.
        log.exception("the model %s can't be loaded", settings.DEFAULT_MODEL)
