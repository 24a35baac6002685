"""The line a job travels, as a table: where it stands -> the step that takes it on.

Each step does one deed of a lower room and says what comes next. The work is over when its output is
kept; evidence follows in stages of its own, and a crash between two of them never re-runs the work.
Nothing here is remembered between calls: whoever is woken reads the row and goes on.
"""

import datetime as dt
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from jobs import lifecycle, wake
from jobs.claims import COMPLETED, STARTED, read_claim
from jobs.lifecycle import move_evidence
from jobs.models import Attempt, Job, Provider
from jobs.states import AttemptState, EvidenceState, JobState
from minting import attest as attesting
from minting import mint as minting
from minting.models import MintState, Usage
from provenance.credentials import find_credential, keep, prepare_credential
from provenance.digests import as_sha256
from provenance.errors import ProvenanceError
from provenance.manifest import CredentialFacts, Origin
from receipts.canonical import decode_canonical
from receipts.models import Receipt

log = logging.getLogger(__name__)
_SWEPT = 100
_ORIGINS: Final[dict[str, Origin]] = {"hosted": "hosted", "reported": "reported", "simulated": "simulated"}


@dataclass(frozen=True, slots=True)
class NotYet:
    """The step waits: look again after `seconds`; `reason` is shown to operators."""

    seconds: float
    reason: str


Step = Callable[[Job], NotYet | None]


def schedule(job: Job) -> NotYet | None:
    """submitted -> scheduled: hold the auction, grant a lease."""
    if lifecycle.expire(job_id=job.job_id) or lifecycle.schedule(job_id=job.job_id):
        return None
    return NotYet(1, "no provider of this kind has room at this price")


def await_start(job: Job) -> NotYet | None:
    """scheduled: the worker starts it, or the lease runs out."""
    if lifecycle.expire(job_id=job.job_id) or _lease_ran_out(job):
        return None
    return NotYet(settings.START_SECONDS, "leased, not started")


def await_worker(job: Job) -> NotYet | None:
    """running: the worker finishes it, or the lease runs out."""
    return None if _lease_ran_out(job) else NotYet(settings.LEASE_SECONDS, "running")


def issue_credentials(job: Job) -> NotYet | None:
    """completed: sign every output, then note each credential."""
    attempt = _succeeded(job)
    told = read_claim(_signed(attempt)["claim"], COMPLETED)
    prepared = []
    for output in told["outputs"]:
        if find_credential(tenant=job.tenant, subject=job.job_id, unsigned_sha256=output["sha256"]) is None:
            facts = _credential_facts(job, attempt, told, output["sha256"])
            prepared.append((output["name"], prepare_credential(mime=output["mime"], facts=facts)))
    with transaction.atomic():
        job = lifecycle.locked(job.job_id)
        if job.evidence != EvidenceState.CREDENTIAL:
            return None
        for n, (name, credential) in enumerate(prepared):
            issued = keep(tenant=job.tenant, prepared=credential)
            data = {
                "name": name,
                "unsigned_sha256": issued.unsigned_sha256,
                "signed_sha256": issued.signed_sha256,
                "size": issued.signed_size,
                "mime": issued.mime,
                "embedded": issued.embedded,
                "manifest_label": issued.manifest_label,
                "certificate_sha256": issued.certificate_sha256,
            }
            if issued.manifest_sha256:
                data["manifest_sha256"] = issued.manifest_sha256
            lifecycle.note(job, "CredentialIssued", data, n=n)
        move_evidence(job, EvidenceState.USAGE)
    return None


def receive_usage(job: Job) -> NotYet | None:
    """credential issued: note the provider's usage claim."""
    attempt = _succeeded(job)
    with transaction.atomic():
        job = lifecycle.locked(job.job_id)
        if job.evidence != EvidenceState.USAGE:
            return None
        attesting.receive_usage(
            tenant=job.tenant,
            subject=job.job_id,
            attempt=attempt.number,
            origin=job.origin,
            text=_signed(attempt)["usage"],
            signature=_signed(attempt)["usage_sig"],
        )
        mints = bool(settings.CHAIN_RPC_URL and settings.MINTER_ADDRESS) and job.origin == "hosted"
        move_evidence(job, EvidenceState.ATTESTATION if mints else EvidenceState.COMPLETE)
    return None


def attest(job: Job) -> NotYet | None:
    """usage received: hold it against what the hub saw, and sign that it fits."""
    attempt = _succeeded(job)
    told = read_claim(_signed(attempt)["claim"], COMPLETED)
    with transaction.atomic():
        job = lifecycle.locked(job.job_id)
        if job.evidence != EvidenceState.ATTESTATION:
            return None
        usage = attesting.attest(
            usage=Usage.objects.select_for_update().get(subject=job.job_id),
            facts=attesting.Facts(
                job_id=job.job_id,
                job_nid=job.nid,
                attempt=attempt.number,
                provider=attempt.provider.key_id,
                payout=attempt.provider.payout,
                price=int(attempt.price),
                unit_type=attempt.unit_type,
                units_measured=told["meter"].get(attempt.unit_type, {}).get("value", 0),
                artifact_sha256s=frozenset(output["sha256"] for output in told["outputs"]),
                span_ms=_span_ms(attempt),
                max_price=None if job.max_price is None else int(job.max_price),
            ),
        )
        refused = usage.state == MintState.REFUSED
        move_evidence(job, EvidenceState.COMPLETE if refused else EvidenceState.MINT)
    return None


def mint(job: Job) -> NotYet | None:
    """attested: send the mint, follow it until it is final, note it."""
    with transaction.atomic():
        job = lifecycle.locked(job.job_id)
        if job.evidence != EvidenceState.MINT:
            return None
        usage = Usage.objects.select_for_update(of=("self",)).get(subject=job.job_id)
        if usage.state == MintState.ATTESTED:
            usage = minting.mint(usage=usage)
        elif usage.state == MintState.SENT:
            usage = minting.settle(usage=usage)
        if usage.state in (MintState.MINTED, MintState.REFUSED):
            move_evidence(job, EvidenceState.COMPLETE)
            return None
    return NotYet(1, usage.reason or f"the mint is {usage.state}")


STEPS: Final[dict[tuple[JobState, EvidenceState], Step]] = {
    (JobState.SUBMITTED, EvidenceState.NONE): schedule,
    (JobState.SCHEDULED, EvidenceState.NONE): await_start,
    (JobState.RUNNING, EvidenceState.NONE): await_worker,
    (JobState.COMPLETED, EvidenceState.CREDENTIAL): issue_credentials,
    (JobState.COMPLETED, EvidenceState.USAGE): receive_usage,
    (JobState.COMPLETED, EvidenceState.ATTESTATION): attest,
    (JobState.COMPLETED, EvidenceState.MINT): mint,
}


def advance(job_id: str) -> NotYet | None:
    """Take a job as far as it goes now; say what it waits for, None when it is over."""
    while True:
        job = Job.objects.select_related("tenant").get(pk=job_id)
        stood = (JobState(job.state), EvidenceState(job.evidence))
        step = STEPS.get(stood)
        if step is None:
            return None
        try:
            waits = step(job)
        except ProvenanceError as error:
            waits = _try_later(job, error)
        if waits is not None:
            _note_wait(job, waits)
            return waits
        if Job.objects.filter(pk=job_id, state=stood[0], evidence=stood[1]).exists():
            return NotYet(1, "someone else is at it")


def sweep() -> int:
    """Find every job that can go on though no message told of it, and advance it; give how many."""
    now = timezone.now()
    swept = list(Job.objects.waiting().values_list("pk", flat=True)[:_SWEPT])
    swept += Attempt.objects.filter(
        state__in=[AttemptState.LEASED, AttemptState.RUNNING], lease_until__lt=now
    ).values_list("job_id", flat=True)[:_SWEPT]
    swept += Job.objects.lacking_evidence().filter(evidence_due_at__lte=now).values_list("pk", flat=True)[:_SWEPT]
    for job_id in dict.fromkeys(swept):
        try:
            advance(job_id)
        except Exception:
            # One job's trouble must not keep the others waiting; it is tried again at the next sweep.
            log.exception("%s can't be advanced", job_id)
    for provider in Provider.objects.filter(
        attempt__state=AttemptState.LEASED, attempt__leased_at__lt=now - dt.timedelta(seconds=1)
    ).distinct():
        wake.provider(provider.queue)
    return len(swept)


def _note_wait(job: Job, waits: NotYet) -> None:
    if job.state != JobState.COMPLETED:
        return
    due = timezone.now() + dt.timedelta(seconds=waits.seconds)
    Job.objects.filter(pk=job.pk).update(evidence_due_at=due, evidence_reason=waits.reason[:300])


def _try_later(job: Job, error: Exception) -> NotYet:
    """Back off: 1, 2, 4 … seconds, at most five minutes. Evidence may wait but is never given up."""
    tries = job.evidence_tries + 1
    Job.objects.filter(pk=job.pk).update(evidence_tries=tries)
    log.warning("%s: %s (try %d)", job.job_id, error, tries)
    return NotYet(min(300, 2 ** min(tries - 1, 9)), str(error))


def _lease_ran_out(job: Job) -> bool:
    attempt = job.attempts.filter(state__in=[AttemptState.LEASED, AttemptState.RUNNING]).first()
    return attempt is not None and lifecycle.requeue(fencing=attempt.fencing) is not None


def _succeeded(job: Job) -> Attempt:
    return job.attempts.select_related("provider").get(state=AttemptState.SUCCEEDED)


def _signed(attempt: Attempt) -> dict[str, Any]:
    """The provider's claims of a completed attempt, as it signed them."""
    assert attempt.completion is not None
    return dict(attempt.completion)


def _span_ms(attempt: Attempt) -> int:
    """From Started to Completed by the database's clock."""
    assert attempt.started_at and attempt.finished_at
    return int((attempt.finished_at - attempt.started_at).total_seconds() * 1000)


def _credential_facts(job: Job, attempt: Attempt, told: dict[str, Any], unsigned_sha256: str) -> CredentialFacts:
    completed = Receipt.objects.get(tenant=job.tenant, subject=job.job_id, event_type="JobCompleted")
    started = read_claim(_started_claim(job, attempt), STARTED)
    return CredentialFacts(
        job_id=job.job_id,
        job_nid=job.nid,
        completed_nid=completed.nid,
        unsigned_sha256=as_sha256(unsigned_sha256),
        kind=job.kind,
        model=job.model,
        model_digest=started["model_digest"],
        provider=attempt.provider.key_id,
        origin=_ORIGINS[job.origin],
        hub=settings.LOG_ORIGIN,
        software="diffusers",
        software_version=str(told["facts"].get("diffusers", "")),
        prompt_digests={
            name: job.answer["inputs"][name] for name in ("prompt", "negative_prompt") if name in job.inputs
        },
        meter=told["meter"],
    )


def _started_claim(job: Job, attempt: Attempt) -> str:
    receipt = Receipt.objects.get(
        tenant=job.tenant, subject=job.job_id, event_type="JobStarted", attempt=attempt.number
    )
    claim: str = decode_canonical(bytes(receipt.body))["data"]["claim"]
    return claim
