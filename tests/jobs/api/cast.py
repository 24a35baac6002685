"""The people of the API's tests, and what they leave behind: Ada asks, Mallory may not, Cy audits."""

import io
import json
from dataclasses import dataclass
from typing import Any

from django.db import transaction
from django.test import Client

from jobs.accounts import make_api_key
from jobs.models import Job, User
from jobs.states import EvidenceState, JobState
from minting.models import MintState, Usage
from provenance.credentials import keep_artifact
from provenance.models import Artifact
from provenance.store import house_store
from receipts.models import Receipt, Tenant
from receipts.record import record
from tests.receipts.examples import BO, PAYOUT, examples

PNG = b"\x89PNG\r\n\x1a\n a red circle, with its credential"
CIRCLE = {"kind": "text-to-image", "inputs": {"prompt": "a red circle", "steps": 5, "seed": 7}}


@dataclass(frozen=True)
class Program:
    """A program that calls the API with its tenant's key."""

    tenant: Tenant
    key: str

    @property
    def http(self) -> Client:
        return Client(headers={"Authorization": f"Bearer {self.key}"})

    def get(self, path: str, **headers: str) -> Any:
        return self.http.get(path, headers=headers)

    def post(self, path: str, body: Any = None, **headers: str) -> Any:
        data = body if isinstance(body, bytes) else json.dumps({} if body is None else body)
        return self.http.post(path, data, content_type="application/json", headers=headers)

    def submit(self, body: Any = None, **headers: str) -> Any:
        return self.post("/api/v1/jobs", CIRCLE if body is None else body, **headers)


def program(slug: str) -> Program:
    tenant, _ = Tenant.objects.get_or_create(id=slug, defaults={"name": slug.title()})
    return Program(tenant, make_api_key(tenant=tenant, label="test"))


def person(name: str, role: str, tenant: Tenant | None = None) -> Client:
    """A person with a session in the browser."""
    user = User.objects.create_user(name, password=None, role=role, tenant=tenant)
    http = Client(enforce_csrf_checks=True)
    http.force_login(user)
    return http


def with_evidence(job_id: str) -> Job:
    """Give a job what the pipeline would: later receipts, a signed picture, an attested and minted usage claim."""
    job = Job.objects.get(pk=job_id)
    told = {name: json.loads(raw)["data"] for name, raw in examples().items()}
    with transaction.atomic():
        written = {name: _note(job, name, told[name]) for name in ("JobStarted", "JobCompleted", "CredentialIssued")}
        written["UsageReceipt"] = _note(job, "UsageReceipt", told["UsageReceipt"])
        attested = _publish("UsageAttested", told["UsageAttested"])
        minted = _publish("TokensMinted", told["TokensMinted"])
        kept = house_store().put(io.BytesIO(PNG))
        keep_artifact(
            tenant=job.tenant,
            subject=job_id,
            role=Artifact.Role.SIGNED,
            name="picture.png",
            stored=kept,
            mime="image/png",
        )
        Usage.objects.create(
            tenant=job.tenant,
            subject=job_id,
            receipt_hash=told["UsageReceipt"]["receipt_hash"],
            text=told["UsageReceipt"]["claim"],
            signature=told["UsageReceipt"]["sig"],
            provider=BO.key_id,
            payout=PAYOUT,
            units=1,
            unit_type="cpu_ms",
            price=1,
            amount=1,
            state=MintState.MINTED,
            usage_receipt=written["UsageReceipt"],
            attested_receipt=attested,
            minted_receipt=minted,
        )
    Job.objects.filter(pk=job_id).update(state=JobState.COMPLETED, evidence=EvidenceState.COMPLETE, attempt=1)
    job.refresh_from_db()
    return job


def _note(job: Job, event_type: str, data: dict[str, Any]) -> Receipt:
    written = record(
        event_type=event_type,
        subject=job.pk,
        tenant_id=job.tenant_id,
        actor=f"provider:{BO.key_id}",
        data=data,
        attempt=1,
    )
    return Receipt.objects.get(nid=written.nid)


def _publish(event_type: str, data: dict[str, Any]) -> Receipt:
    written = record(
        event_type=event_type, subject=f"usage:{event_type}", tenant_id=None, actor=f"hub:{BO.key_id}", data=data
    )
    return Receipt.objects.get(nid=written.nid)
