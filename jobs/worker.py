"""Own one device and do the work of one provider: claim, run, meter, keep, complete.

The worker holds the provider's key and signs what it says. It loads a model once and keeps it warm. A
kill -9 at any line loses the attempt and nothing else: the lease runs out and the job is offered again.
"""

import fcntl
import logging
import os
import secrets
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import DatabaseError, connection
from django.utils import timezone

from jobs import lifecycle
from jobs.claims import FAILED, PROGRESS, STARTED, OutputClaim, claim_text, completed_claim, inputs_digest
from jobs.errors import JobError, LeaseLost
from jobs.meter import Meter
from jobs.models import Attempt, Job, Provider
from jobs.runners import runner_for
from jobs.runners.base import Cancelled, ProgressReport, Runner, RunnerError, RunResult
from jobs.runners.catalogue import reference_of
from jobs.states import AttemptState
from minting.usage import UsageClaim, usage_text
from provenance.errors import ProvenanceError, StoreFull
from provenance.store import house_store
from receipts.canonical import b64url, field_digest, utc
from receipts.keys import Ed25519Signer, ed25519_signer, sign_text

log = logging.getLogger(__name__)
_PROGRESS_SECONDS = 0.1  # at most ten progress receipts a second, whatever the model's step takes
_PROGRESS_SPACING = 5.0  # between two lies half of the work's age, up to this: early news, little cost


def work(provider_slug: str) -> int:
    """Do all the work that is leased to this provider now; give how many jobs were tried."""
    done = 0
    while (attempt := _next(provider_slug)) is not None:
        done += 1
        try:
            run_attempt(attempt)
        except LeaseLost as error:
            log.warning("%s: %s", attempt, error)
    return done


@cache
def provider_signer() -> Ed25519Signer:
    """The provider's key, as this worker holds it."""
    return ed25519_signer("provider", settings.KEYS_DIR)


@cache
def warm_runner(kind: str, model: str) -> Runner:
    """Load a model once; later jobs of it find it warm."""
    runner = runner_for(kind).make(model, reference_of(model))
    began = time.monotonic()
    runner.setup()
    log.info("%s with %s is warm after %.1f s", kind, model, time.monotonic() - began)
    return runner


def _next(provider_slug: str) -> Attempt | None:
    return (
        Attempt.objects.filter(provider__slug=provider_slug, state=AttemptState.LEASED, lease_until__gt=timezone.now())
        .select_related("job", "provider")
        .order_by("id")
        .first()
    )


def run_attempt(attempt: Attempt) -> None:
    """Take one attempt from lease to outcome.

    Raises: LeaseLost, when the job was offered again or called off meanwhile.
    """
    job, signer = attempt.job, provider_signer()
    saying = _Saying(job, attempt, signer)
    lease = _Lease(attempt.fencing)
    meter = Meter()
    try:
        with lease, _workdir(job.job_id) as workdir:
            runner = warm_runner(job.kind, job.model)  # a cold model loads before Started: that time is not billed
            lifecycle.start(
                fencing=attempt.fencing,
                worker=f"{socket.gethostname()}:{threading.get_native_id()}",
                **saying.started(runner),
            )
            started_at = timezone.now()
            reporter = _Reporter(saying)
            with reporter, meter:
                result = runner.run(job.inputs, reporter.report, workdir=workdir, cancelled=lambda: lease.lost)
            outputs = _keep(result)
            finished_at = timezone.now()
            if lease.lost:
                raise LeaseLost(attempt.fencing)
            completion = saying.completed(outputs, result, meter, utc(started_at), utc(finished_at))
            lifecycle.complete(fencing=attempt.fencing, **completion)
    except Cancelled:
        raise LeaseLost(attempt.fencing) from None
    except RunnerError as error:
        _fail(attempt, saying, meter, error.class_, str(error), may_pass=error.may_pass)
    except ProvenanceError as error:
        # A full disk may be emptied; an output above the limit stays above it.
        _fail(attempt, saying, meter, "output", str(error), may_pass=isinstance(error, StoreFull))
    except JobError:
        raise
    except DatabaseError:
        # The lease decides: what can't be written now is tried again by whoever gets the job next.
        log.exception("%s: the database is away", attempt)
        raise LeaseLost(attempt.fencing) from None
    except Exception as error:
        # A runner's own bug must not take the worker down, nor be tried for ever.
        log.exception("%s: the runner broke", attempt)
        _fail(attempt, saying, meter, "runner", f"{type(error).__name__}: {error}", may_pass=True)


def _fail(attempt: Attempt, saying: "_Saying", meter: Meter, class_: str, detail: str, *, may_pass: bool) -> None:
    log.warning("%s failed (%s): %s", attempt, class_, detail)
    lifecycle.fail(
        fencing=attempt.fencing,
        class_=class_,
        detail=detail,
        may_pass=may_pass,
        **saying.failed(class_, detail, meter),
    )


def _work_root() -> Path:
    root = Path(settings.DATA_DIR) / "work"
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    return root


@contextmanager
def _workdir(name: str) -> Iterator[Path]:
    """Make a folder for one run and hold a lock on it, so that no other worker's sweep takes it for a leftover."""
    folder = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=_work_root()))
    lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def sweep_workdirs() -> int:
    """Remove what killed workers left: folders that nobody holds the lock of. Called when a worker starts."""
    removed = 0
    for folder in _work_root().iterdir():
        lock = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
            removed += 1
        except BlockingIOError:
            continue  # a running worker's
        finally:
            os.close(lock)
    return removed


def _keep(result: RunResult) -> list[OutputClaim]:
    store = house_store()
    outputs: list[OutputClaim] = []
    for output in result.outputs:
        stored = store.put(output.path, max_bytes=settings.STORE_MAX_BYTES)
        outputs.append({"name": output.name, "sha256": stored.sha256, "size": stored.size, "mime": output.mime})
    return outputs


class _Saying:
    """What the provider says of one attempt, each as a signed claim."""

    def __init__(self, job: Job, attempt: Attempt, signer: Ed25519Signer) -> None:
        self.job, self.attempt, self.signer = job, attempt, signer
        self.about = {
            "job_id": job.job_id,
            "job_nid": job.nid,
            "attempt": attempt.number,
            "fencing": attempt.fencing,
        }

    def _signed(self, claim: str) -> dict[str, Any]:
        return {"claim": claim, "signature": sign_text(self.signer, claim)}

    def started(self, runner: Any) -> dict[str, Any]:
        """Name the weights, the device and the runner."""
        return self._signed(
            claim_text(
                STARTED,
                **self.about,
                provider=self.signer.key_id,
                model=self.job.model,
                model_digest=runner.digest,
                device=runner.device_name,
                runner=f"tallystick/{settings.VERSION}",
                at=utc(timezone.now()),
            )
        )

    def progress(self, step: int, steps: int) -> dict[str, Any]:
        """Say how far the work is."""
        return self._signed(claim_text(PROGRESS, **self.about, step=step, steps=steps, at=utc(timezone.now())))

    def failed(self, class_: str, detail: str, meter: Meter) -> dict[str, Any]:
        """Say why it failed; the message itself stays private, its salted digest is told."""
        reading = meter.reading({}) if hasattr(meter, "wall_ms") else {}
        digest = field_digest("detail", detail.encode("utf-8", "replace").decode()[:4000], secrets.token_bytes(16))
        return self._signed(
            claim_text(FAILED, **self.about, **{"class": class_}, meter=reading, detail=digest, at=utc(timezone.now()))
        )

    def completed(
        self, outputs: list[OutputClaim], result: RunResult, meter: Meter, started_at: str, finished_at: str
    ) -> dict[str, Any]:
        """Say what was made and measured, and claim the units served."""
        reading = meter.reading(result.facts)
        provider: Provider = self.attempt.provider
        claim = completed_claim(
            **self.about,
            provider=self.signer.key_id,
            outputs=outputs,
            facts=result.facts,
            meter=reading,
            started_at=started_at,
            finished_at=finished_at,
        )
        # No instrument for the unit that was sold means nothing to bill, never an estimate.
        units = int(reading[self.attempt.unit_type].get("value", 0))
        price = int(self.attempt.price)
        salt = secrets.token_bytes(16)
        usage = usage_text(
            UsageClaim(
                job_id=self.job.job_id,
                job_nid=self.job.nid,
                attempt=self.attempt.number,
                provider=self.signer.key_id,
                payout=provider.payout,
                client=client_pseudonym(self.job, salt),
                units=units,
                unit_type="gpu_ms" if self.attempt.unit_type == "gpu_ms" else "cpu_ms",
                price=price,
                amount=units * price,
                model=self.job.model,
                model_digest=str(result.facts["model_digest"]) if result.facts.get("model_digest") else None,
                prompt_hash=inputs_digest(self.job.answer["inputs"]),
                started_at=started_at,
                finished_at=finished_at,
                artifact_sha256=outputs[0]["sha256"],
                nonce=b64url(secrets.token_bytes(16)),
                hub_id=settings.LOG_ORIGIN,
                chain_id=settings.CHAIN_ID,
            )
        )
        return self._signed(claim) | {
            "usage": usage,
            "usage_signature": sign_text(self.signer, usage),
            "salts": {"client": b64url(salt)},
        }


def client_pseudonym(job: Job, salt: bytes) -> str:
    """Name a job's client so that two jobs of one client can't be told to be of one: a salted digest.

    The salt is the worker's own: one of the inputs' would tell the client to whom an input is disclosed.
    """
    return field_digest("client", job.client_key or job.tenant_id, salt)


class _Lease:
    """Keep the lease by heartbeats from a thread of its own; `lost` says when to stop."""

    def __init__(self, fencing: int) -> None:
        self.fencing = fencing
        self.lost = False
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, name=f"lease-{fencing}", daemon=True)

    def __enter__(self) -> "_Lease":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _beat(self) -> None:
        try:
            while not self._over.wait(settings.LEASE_SECONDS / 5):
                try:
                    if not lifecycle.heartbeat(fencing=self.fencing):
                        self.lost = True
                        return
                except DatabaseError as error:
                    # Not lost yet: the lease outlives four missed beats. If it runs out, completing is refused.
                    log.warning("heartbeat of %s: %s", self.fencing, error)
        finally:
            connection.close()


@dataclass
class _Reporter:
    """Tell of progress from a thread of its own, so that the device never waits for the database."""

    saying: _Saying
    _newest: ProgressReport | None = None
    _told: int = 0
    _began: float = 0.0
    _wake: threading.Event = field(default_factory=threading.Event)
    _over: bool = False
    _thread: threading.Thread | None = None

    def report(self, progress: ProgressReport) -> None:
        """Take a step from the runner; steps that come faster than receipts are told together."""
        self._newest = progress
        self._wake.set()

    def __enter__(self) -> "_Reporter":
        self._thread = threading.Thread(target=self._tell, name=f"progress-{self.saying.attempt.pk}", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over = True
        self._wake.set()
        assert self._thread is not None
        self._thread.join()

    def _tell(self) -> None:
        try:
            last = self._began = time.monotonic()
            while True:
                if not self._over:  # the end may come together with the last step: one wake for both
                    self._wake.wait()
                self._wake.clear()
                progress, self._newest = self._newest, None
                if progress is None:
                    if self._over:
                        return
                    continue
                if self._told >= settings.PROGRESS_RECEIPTS or (self._over and progress.step == progress.steps):
                    continue  # the last step is told by JobCompleted
                if not self._due(progress, last):
                    continue
                last = time.monotonic()
                self._note(progress)
        finally:
            connection.close()

    def _due(self, progress: ProgressReport, last: float) -> bool:
        share = -(-progress.steps // settings.PROGRESS_RECEIPTS)
        now = time.monotonic()
        spacing = max(_PROGRESS_SECONDS, min((now - self._began) / 2, _PROGRESS_SPACING))
        return progress.step % share == 0 and now - last >= spacing

    def _note(self, progress: ProgressReport) -> None:
        self._told += 1
        try:
            lifecycle.progress(
                fencing=self.saying.attempt.fencing,
                step=progress.step,
                steps=progress.steps,
                n=self._told,
                **self.saying.progress(progress.step, progress.steps),
            )
        except (JobError, DatabaseError) as error:
            # Progress is news, not evidence of the result: completing decides whether the lease still holds.
            log.warning("progress of %s: %s", self.saying.attempt, error)
            self._told = settings.PROGRESS_RECEIPTS
