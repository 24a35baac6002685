"""A small house with something to show, made by the same deeds that make a real one; only the picture is painted."""

from typing import Any

from django.conf import settings

from jobs import lifecycle, pipeline, worker
from jobs.admission import JobRequest
from jobs.claims import REQUEST, claim_text
from jobs.models import Job
from jobs.models import User as Person
from jobs.states import EvidenceState
from receipts import log
from receipts.anchor import anchor
from receipts.canonical import b64url, field_digest
from receipts.chain import sender
from receipts.keys import ed25519_signer, sign_text
from receipts.models import Tenant

PASSWORD = "a-password-for-tests-alone"


def people() -> dict[str, Person]:
    """The cast: an operator, Cy who audits, Ada who asks, and another tenant's auditor."""
    other = Tenant.objects.get_or_create(id="mallory", defaults={"name": "Mallory Ltd."})[0]
    ada = Tenant.objects.get(pk="ada")
    told: dict[str, tuple[str, Tenant | None]] = {
        "op": (Person.Role.OPERATOR, None),
        "auditor": (Person.Role.AUDITOR, None),
        "client": (Person.Role.CLIENT, ada),
        "outsider": (Person.Role.AUDITOR, other),
    }
    return {
        name: Person.objects.create_user(name, password=PASSWORD, role=role, tenant=tenant)
        for name, (role, tenant) in told.items()
    }


def submit(prompt: str, *, signed: bool = True, key: str | None = None, **changes: Any) -> str:
    """Ask for a picture as Ada does."""
    tenant = Tenant.objects.get(pk="ada")
    inputs = {"prompt": prompt, "steps": 15, "guidance": "3", "count": 1, "seed": 7} | changes
    common: dict[str, Any] = {"kind": "text-to-image", "model": "tiny-shapes", "inputs": inputs}
    if signed:
        salts = {name: b64url(bytes([n]) * 16) for n, name in enumerate(inputs)}
        digests = {name: field_digest(name, inputs[name], bytes([n]) * 16) for n, name in enumerate(inputs)}
        claim = claim_text(
            REQUEST,
            kind=common["kind"],
            model=common["model"],
            inputs=digests,
            hub=settings.LOG_ORIGIN,
            nonce=b64url(bytes(16)),
            at="2026-11-21T07:00:00.000Z",
        )
        signer = ed25519_signer("client", settings.KEYS_DIR)
        common |= {"salts": salts, "claim": claim, "signature": dict(sign_text(signer, claim))}
    request = JobRequest(**common)
    return lifecycle.submit(
        tenant_id=tenant.pk, request=request, idempotency_key=key, fingerprint="f" * 64, actor="api-key:ts_test"
    ).job_id


def work_off(*job_ids: str) -> None:
    """Take jobs to their end, then publish what the log has."""
    for job_id in job_ids:
        pipeline.advance(job_id)
        worker.work("bo")
        pipeline.advance(job_id)
    crank()


def crank() -> None:
    """One turn of everything that beat turns."""
    log.turn()
    if settings.CHAIN_RPC_URL:
        anchor()
        sender.turn()


def is_complete(job_id: str) -> bool:
    """Whether all the evidence is there that a job is due."""
    pipeline.advance(job_id)
    return Job.objects.get(pk=job_id).evidence == EvidenceState.COMPLETE
