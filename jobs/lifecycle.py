"""Every move of a job: the row and its receipt in one transaction, or neither.

Locks are taken in one order: job, attempt, subject's thread. Time is the database's clock.
"""

import datetime as dt
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.db import connection, transaction
from django.db.models import DateTimeField, F, Func

from jobs import wake
from jobs.admission import (
    OPEN,
    JobRequest,
    check_request_claim,
    door,
    hub_key_id,
    input_digests,
    make_promise,
    new_job_id,
    why_not,
)
from jobs.claims import COMPLETED, FAILED, PROGRESS, STARTED, ClaimBroken, read_claim
from jobs.errors import (
    BadRequest,
    ClaimRefused,
    IdempotencyConflict,
    IllegalMove,
    LeaseLost,
    QueueFull,
    StillRunning,
)
from jobs.market.leases import grant, hold_auction
from jobs.models import Attempt, Job, Provider
from jobs.models.work import job_row
from jobs.states import (
    ATTEMPT_MOVES,
    EVIDENCE_MOVES,
    JOB_MOVES,
    ONLY_REPORTED,
    AttemptState,
    EvidenceState,
    JobState,
)
from provenance.credentials import keep_artifact
from provenance.models import Artifact
from provenance.store import Stored, house_store
from receipts.canonical import Nid, NotCanonical, b64url, utc
from receipts.keys import KeyId, Signature, SignatureBroken, verify_text
from receipts.record import AlreadyRecorded, Beside, NotLetIn, database_now, record


@dataclass(frozen=True, slots=True)
class Submitted:
    """The job, and what its client is told; `created` is false when a repeated request is told the same again."""

    job_id: str
    created: bool
    answer: dict[str, Any]


# --- the client's moves --------------------------------------------------------------------------


def submit(
    *,
    tenant_id: str,
    request: JobRequest,
    idempotency_key: str | None,
    fingerprint: str,
    actor: str,
    now: dt.datetime | None = None,
) -> Submitted:
    """Accept a job: its row, its JobSubmitted receipt and the hub's promise, by one statement where the door is open.

    `now` is the database's clock, where the caller has just read it.

    Raises: BadRequest, IdempotencyConflict, StillRunning, QueueFull.
    """
    salts = request.salts or {name: b64url(secrets.token_bytes(16)) for name in request.inputs}
    digests = input_digests(request.inputs, salts)
    signer = check_request_claim(request, digests)
    now = now or database_now()
    job_id = new_job_id()
    expires_at = now + dt.timedelta(seconds=request.ttl_s or settings.JOB_TTL_SECONDS)
    data: dict[str, Any] = {
        "kind": request.kind,
        "model": request.model,
        "inputs": digests,
        "priority": request.priority,
        "expires_at": utc(expires_at),
    }
    if request.max_price is not None:
        data["max_price"] = str(request.max_price)
    if request.claim is not None:
        data |= {"claim": request.claim, "sig": request.signature}
    answer: dict[str, Any] = {"job_id": job_id}

    def row(nid: Nid) -> Beside:
        promise = make_promise(nid, now)
        answer.update(
            {
                "nid": nid,
                "kind": request.kind,
                "model": request.model,
                "state": JobState.SUBMITTED.value,
                "attempt": 0,
                "created_at": utc(now),
                "inputs": digests,
                "salts": salts,
                "promise": promise,
            }
        )
        facts = job_row(
            job_id=job_id,
            tenant_id=tenant_id,
            nid=nid,
            kind=request.kind,
            model=request.model,
            inputs=request.inputs,
            salts=salts,
            client_key=signer or "",
            max_price=request.max_price,
            priority=request.priority,
            expires_at=expires_at,
            idempotency_key=idempotency_key,
            fingerprint=fingerprint,
            promise=promise,
            answer=answer,
            steps=int(request.inputs.get("steps", 0) or 0),
            created_at=now,
        )
        return Beside(table="jobs_job", row=facts, condition=OPEN, given=door(tenant_id, idempotency_key, signer))

    try:
        record(
            event_type="JobSubmitted",
            subject=job_id,
            tenant_id=tenant_id,
            actor=f"client:{signer}" if signer else actor,
            data=data,
            first=True,
            occurred_at=now,
            beside=row,
        )
    except (NotLetIn, AlreadyRecorded):  # the latter: the first one with this key was written meanwhile
        return _answer_again(tenant_id, idempotency_key, fingerprint, signer)
    wake.hub(job_id)
    return Submitted(job_id, True, answer)


def _answer_again(tenant_id: str, idempotency_key: str | None, fingerprint: str, signer: str | None) -> Submitted:
    refusal = why_not(tenant_id, idempotency_key, signer)
    if refusal.fingerprint is not None:
        if refusal.fingerprint != fingerprint:
            raise IdempotencyConflict(f"the Idempotency-Key {idempotency_key!r} came before, with another body")
        return Submitted(refusal.answer["job_id"], False, refusal.answer)
    if signer and not refusal.signer_known:
        raise BadRequest("sig.key_id", signer, "must be a client key that this tenant has registered")
    if refusal.queued >= settings.QUEUE_LIMIT or idempotency_key is None:
        raise QueueFull(settings.QUEUE_LIMIT)
    raise StillRunning(f"a request with the Idempotency-Key {idempotency_key!r} is being worked on")


def cancel(*, job_id: str, by: str) -> Job:
    """Call a job off; `by` is `client` or `operator`. Nothing is billed.

    Raises: IllegalMove, when it is over already.
    """
    with transaction.atomic():
        job = locked(job_id)
        data: dict[str, Any] = {"by": by, "billed": "nothing"} | _held_lease(job)
        _end_lease(job, AttemptState.FAILED)
        move(job, JobState.CANCELLED, finished_at=database_now())
        _note(job, "JobCancelled", data)
    return job


# --- the hub's moves -----------------------------------------------------------------------------


def schedule(*, job_id: str) -> Attempt | None:
    """Hold the auction for a submitted job and grant the winner a lease; None when no provider has room."""
    with transaction.atomic():
        job = locked(job_id)
        if job.state != JobState.SUBMITTED:
            return None
        won = hold_auction(job)
        if won is None:
            return None
        award, provider = won
        granted = grant(job=job, provider=provider, won=award, now=database_now())
        attempt = granted.attempt
        move(job, JobState.SCHEDULED, attempt=attempt.number)
        _note(
            job,
            "JobScheduled",
            {
                "provider": provider.key_id,
                "fencing": attempt.fencing,
                "lease_until": utc(attempt.lease_until),
                "unit_type": attempt.unit_type,
                "price": str(int(attempt.price)),
                "score_ppm": award.score_ppm,
                "asks": award.asks,
            },
        )
        wake.provider(provider.queue)
    return attempt


def requeue(*, fencing: int) -> Job | None:
    """Offer a job again whose lease ran out; after the last attempt it failed. None when the lease still holds."""
    with transaction.atomic():
        job, attempt, now = _locked_by(fencing)
        if attempt.state not in (AttemptState.LEASED, AttemptState.RUNNING) or attempt.lease_until > now:
            return None
        cause = "lease-lost" if attempt.state == AttemptState.RUNNING else "not-started"
        _again_or_fail(job, attempt, AttemptState.LOST, cause=cause, class_=cause, extra={})
    return job


def expire(*, job_id: str) -> Job | None:
    """Fail a job whose time to live has passed before it ran; None when it has not, or when it runs."""
    with transaction.atomic():
        job = locked(job_id)
        if job.state not in (JobState.SUBMITTED, JobState.SCHEDULED) or job.expires_at > database_now():
            return None
        held = _held_lease(job)
        _end_lease(job, AttemptState.FAILED)
        _fail(job, "expired", {key: held[key] for key in held if key != "meter"})
    return job


# --- the worker's moves --------------------------------------------------------------------------


def start(*, fencing: int, worker: str, claim: str, signature: Signature) -> Attempt:
    """Note that the worker started, on the provider's signed word; from here on it is billed.

    Raises: LeaseLost, ClaimRefused.
    """
    with transaction.atomic():
        job, attempt = _held(fencing, AttemptState.LEASED)
        _check_worker_claim(claim, signature, STARTED, job, attempt)
        now = database_now()
        _move_attempt(
            attempt,
            AttemptState.RUNNING,
            started_at=now,
            heartbeat_at=now,
            worker=worker[:120],
            lease_until=_lease(now),
        )
        move(job, JobState.RUNNING, started_at=job.started_at or now, step=0)
        _note(job, "JobStarted", {"fencing": fencing, "claim": claim, "sig": signature}, attempt.provider)
    return attempt


def heartbeat(*, fencing: int) -> bool:
    """Extend the lease; false when it is lost, and the worker must stop. One statement, no locks taken."""
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE jobs_attempt SET heartbeat_at = clock_timestamp(),"
            " lease_until = greatest(lease_until, clock_timestamp() + make_interval(secs => %s))"
            " WHERE id = %s AND state IN ('leased', 'running') AND lease_until > clock_timestamp()",
            [settings.LEASE_SECONDS, fencing],
        )
        return bool(cursor.rowcount)


def progress(*, fencing: int, step: int, steps: int, n: int, claim: str, signature: Signature) -> None:
    """Note how far the work is, as receipt number `n` of this attempt.

    Raises: LeaseLost, ClaimRefused.
    """
    with transaction.atomic():
        job, attempt = _held(fencing, AttemptState.RUNNING)
        told = _check_worker_claim(claim, signature, PROGRESS, job, attempt)
        if (told["step"], told["steps"]) != (step, steps):
            raise ClaimRefused(f"the claim says step {told['step']} of {told['steps']}, the worker {step} of {steps}")
        Job.objects.filter(pk=job.pk).update(step=step, steps=steps)
        _note(
            job,
            "JobProgressUpdate",
            {"fencing": fencing, "step": step, "steps": steps, "claim": claim, "sig": signature},
            attempt.provider,
            n=n,
        )


def complete(
    *,
    fencing: int,
    claim: str,
    signature: Signature,
    usage: str,
    usage_signature: Signature,
    salts: Mapping[str, str] | None = None,
) -> Job:
    """Accept the work: its outputs must be in the store already. Evidence follows in stages of its own.

    `salts` are those of the claims' salted fields (the client's pseudonym), kept for the parties.

    Raises: LeaseLost, ClaimRefused.
    """
    with transaction.atomic():
        job, attempt = _held(fencing, AttemptState.RUNNING)
        told = _check_worker_claim(claim, signature, COMPLETED, job, attempt)
        _verified(usage, usage_signature, attempt.provider)
        _keep_outputs(job, told["outputs"])
        now = database_now()
        _move_attempt(
            attempt,
            AttemptState.SUCCEEDED,
            finished_at=now,
            completion={
                "claim": claim,
                "sig": signature,
                "usage": usage,
                "usage_sig": usage_signature,
                "salts": dict(salts or {}),
            },
        )
        move(
            job,
            JobState.COMPLETED,
            finished_at=now,
            evidence=EvidenceState.CREDENTIAL,
            evidence_due_at=now,
            step=job.steps,
        )
        _note(job, "JobCompleted", {"fencing": fencing, "claim": claim, "sig": signature}, attempt.provider)
        _remember(attempt, now, succeeded=True)
        wake.hub(job.job_id)
    return job


def fail(*, fencing: int, class_: str, detail: str, may_pass: bool, claim: str, signature: Signature) -> Job:
    """Note that an attempt failed; the job is offered again where the failure may pass and attempts are left.

    Raises: LeaseLost, ClaimRefused.
    """
    with transaction.atomic():
        job, attempt = _held(fencing, AttemptState.RUNNING, AttemptState.LEASED)
        told = _check_worker_claim(claim, signature, FAILED, job, attempt)
        if told["class"] != class_:
            raise ClaimRefused(f"the claim says class {told['class']}, the worker {class_}")
        extra: dict[str, Any] = {"claim": claim, "sig": signature, "meter": told["meter"]}
        if "detail" in told:
            extra["detail"] = told["detail"]
        Job.objects.filter(pk=job.pk).update(failure_detail=detail[:4000])
        if may_pass:
            _again_or_fail(job, attempt, AttemptState.FAILED, cause="attempt-failed", class_=class_, extra=extra)
        else:
            _move_attempt(attempt, AttemptState.FAILED, finished_at=database_now())
            _remember(attempt, database_now(), succeeded=False)
            _fail(job, class_, extra | {"fencing": fencing}, attempt.provider)
    return job


# --- moving --------------------------------------------------------------------------------------


def move(job: Job, to: JobState, **facts: Any) -> None:
    """Move a job by compare-and-swap on its state, writing `facts` with it.

    Raises: IllegalMove, when no edge leads there, or someone else moved it meanwhile.
    """
    before = JobState(job.state)
    if to not in JOB_MOVES[before] or ((before, to) in ONLY_REPORTED and job.origin != "reported"):
        raise IllegalMove(job.job_id, before, to)
    if Job.objects.filter(pk=job.pk, state=before).update(state=to, **facts) != 1:
        raise IllegalMove(job.job_id, "no longer " + before, to)
    for name, value in {"state": to, **facts}.items():
        setattr(job, name, value)


def move_evidence(job: Job, to: EvidenceState) -> None:
    """Move a job to its next piece of evidence; how often the last one was tried starts anew.

    Raises: IllegalMove.
    """
    before = EvidenceState(job.evidence)
    facts = {"evidence_tries": 0, "evidence_reason": ""}
    if to not in EVIDENCE_MOVES[before]:
        raise IllegalMove(job.job_id, before, to)
    if Job.objects.filter(pk=job.pk, evidence=before).update(evidence=to, **facts) != 1:
        raise IllegalMove(job.job_id, "no longer " + before, to)
    job.evidence = to


def _move_attempt(attempt: Attempt, to: AttemptState, **facts: Any) -> None:
    before = AttemptState(attempt.state)
    if to not in ATTEMPT_MOVES[before]:
        raise IllegalMove(str(attempt), before, to)
    if Attempt.objects.filter(pk=attempt.pk, state=before).update(state=to, **facts) != 1:
        raise LeaseLost(attempt.pk)
    for name, value in {"state": to, **facts}.items():
        setattr(attempt, name, value)


def _again_or_fail(
    job: Job, attempt: Attempt, ended: AttemptState, *, cause: str, class_: str, extra: dict[str, Any]
) -> None:
    left = settings.MAX_ATTEMPTS - attempt.number
    common = extra | {"fencing": attempt.fencing}
    if attempt.heartbeat_at:
        common["last_heartbeat"] = utc(attempt.heartbeat_at)
    now = database_now()
    _move_attempt(attempt, ended, finished_at=now)
    _remember(attempt, now, succeeded=False)
    actor = attempt.provider if "claim" in extra else None
    if left <= 0:
        _fail(job, "poison", common, actor)
        return
    move(job, JobState.SUBMITTED, step=0)
    _note(job, "JobRequeued", {"cause": cause, "class": class_, "attempts_left": left} | common, actor)
    wake.hub(job.job_id)


def _fail(job: Job, class_: str, extra: dict[str, Any], provider: Provider | None = None) -> None:
    move(job, JobState.FAILED, finished_at=database_now(), failure_class=class_)
    _note(job, "JobFailed", {"class": class_, "billed": "nothing", "attempts": job.attempt} | extra, provider)


def _note(job: Job, event_type: str, data: dict[str, Any], provider: Provider | None = None, n: int = 0) -> None:
    try:
        record(
            event_type=event_type,
            subject=job.job_id,
            tenant_id=job.tenant_id,
            actor=f"provider:{provider.key_id}" if provider else f"hub:{hub_key_id()}",
            data=data,
            attempt=job.attempt,
            n=n,
            origin=job.origin,
        )
    except AlreadyRecorded as error:
        raise IllegalMove(job.job_id, job.state, event_type) from error


def note(job: Job, event_type: str, data: dict[str, Any], *, n: int = 0) -> None:
    """Write a receipt about a job's evidence, by the hub, inside the caller's transaction.

    Raises: IllegalMove, when it is written already.
    """
    _note(job, event_type, data, n=n)


# --- locks and checks ----------------------------------------------------------------------------


def locked(job_id: str) -> Job:
    """Lock a job's row until the transaction at hand ends."""
    return Job.objects.select_for_update(of=("self",)).get(pk=job_id)


def _locked_by(fencing: int) -> tuple[Job, Attempt, dt.datetime]:
    """Lock a lease's job, then the lease; give both, and the database's clock."""
    attempt = (
        Attempt.objects.select_for_update(of=("job", "self"))
        .select_related("job__tenant", "provider")
        .annotate(asked_at=Func(function="clock_timestamp", output_field=DateTimeField()))
        .filter(pk=fencing)
        .first()
    )
    if attempt is None:
        raise LeaseLost(fencing)
    return attempt.job, attempt, attempt.asked_at


def _held(fencing: int, *states: AttemptState) -> tuple[Job, Attempt]:
    """Lock the job that this fencing number holds. A lease that ran out counts as lost, swept or not."""
    job, attempt, now = _locked_by(fencing)
    if attempt.state not in states or attempt.number != job.attempt or attempt.lease_until <= now:
        raise LeaseLost(fencing)
    return job, attempt


def _held_lease(job: Job) -> dict[str, Any]:
    attempt = job.attempts.filter(state__in=[AttemptState.LEASED, AttemptState.RUNNING]).first()
    if attempt is None:
        return {}
    held: dict[str, Any] = {"fencing": attempt.fencing}
    return held | ({"last_heartbeat": utc(attempt.heartbeat_at)} if attempt.heartbeat_at else {})


def _end_lease(job: Job, to: AttemptState) -> None:
    for attempt in job.attempts.select_for_update().filter(state__in=[AttemptState.LEASED, AttemptState.RUNNING]):
        _move_attempt(attempt, to, finished_at=database_now())


def _lease(now: dt.datetime) -> dt.datetime:
    return now + dt.timedelta(seconds=settings.LEASE_SECONDS)


def _verified(text: str, signature: Mapping[str, Any], provider: Provider) -> KeyId:
    try:
        return verify_text(text, signature, key_id=provider.key_id)
    except SignatureBroken as error:
        raise ClaimRefused(str(error)) from None


def _check_worker_claim(
    claim: str, signature: Mapping[str, Any], type_: str, job: Job, attempt: Attempt
) -> dict[str, Any]:
    """Hold a worker's claim against the lease: right job, attempt, fencing number and provider's key."""
    _verified(claim, signature, attempt.provider)
    try:
        told = read_claim(claim, type_)
    except (ClaimBroken, NotCanonical) as error:
        raise ClaimRefused(str(error)) from None
    due = {"job_id": job.job_id, "job_nid": job.nid, "attempt": attempt.number, "fencing": attempt.fencing}
    if "provider" in told:
        due["provider"] = attempt.provider.key_id
    for name, value in due.items():
        if told[name] != value:
            raise ClaimRefused(f"the claim's {name} is {told[name]!r}, {value!r} is due")
    return told


def _keep_outputs(job: Job, outputs: list[dict[str, Any]]) -> None:
    store = house_store()
    if not outputs:
        raise ClaimRefused("a completed job has at least one output")
    for output in outputs:
        path = store.path_of(output["sha256"])
        if not path.exists() or path.stat().st_size != output["size"]:
            raise ClaimRefused(f"the output {output['name']} is not in the store")
        keep_artifact(
            tenant=job.tenant,
            subject=job.job_id,
            role=Artifact.Role.OUTPUT,
            name=output["name"],
            stored=Stored(output["sha256"], output["size"]),
            mime=output["mime"],
        )


def _remember(attempt: Attempt, now: dt.datetime, *, succeeded: bool) -> None:
    """Count how the attempt went towards the provider's reputation. A failure has no quality."""
    took = int((now - (attempt.started_at or attempt.leased_at)).total_seconds() * 1000)
    Provider.objects.filter(pk=attempt.provider_id).update(
        successes=F("successes") + (1 if succeeded else 0),
        failures=F("failures") + (0 if succeeded else 1),
        quality_ppm_total=F("quality_ppm_total") + (1_000_000 if succeeded else 0),
        duration_ms_total=F("duration_ms_total") + took,
        last_seen=now,
    )
