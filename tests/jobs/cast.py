"""People that tests need: Bo does what a worker does, but says when, and what."""

import secrets
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

from django.conf import settings
from django.utils import timezone

from config.founding import make_keys
from jobs import admission, lifecycle, worker
from jobs.admission import JobRequest
from jobs.claims import COMPLETED, FAILED, PROGRESS, STARTED, claim_text, inputs_digest
from jobs.market.providers import register_provider
from jobs.models import Attempt, Job, Provider
from jobs.states import AttemptState
from minting.usage import UsageClaim, usage_text
from provenance.authority import make_authority
from provenance.store import house_store
from receipts.canonical import b64url, utc
from receipts.keys import Ed25519Signer, ed25519_signer, sign_text
from receipts.log import found_log
from receipts.models import Receipt, Tenant

PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de0000000c4944415408d763f8cfc000000301010018dd8db0"
    "0000000049454e44ae426082"
)
INPUTS = {"prompt": "a red circle", "steps": 15, "guidance": "3", "count": 1}


def found_small_house() -> Iterator["Bo"]:
    """Make keys, certificates, a log and two tenants, without a chain; forget what processes keep of keys."""
    admission.hub_signer.cache_clear()
    worker.provider_signer.cache_clear()
    make_keys(lambda _line: None)
    make_authority(Path(settings.KEYS_DIR) / "c2pa", "Tests")
    found_log(settings.LOG_ORIGIN)
    house = Tenant.objects.create(id="house", name="House")
    Tenant.objects.create(id="ada", name="Ada")
    Tenant.objects.create(id="mallory", name="Mallory")
    yield Bo(house)
    admission.hub_signer.cache_clear()
    worker.provider_signer.cache_clear()


class Bo:
    """A provider with one worker, driven by hand."""

    def __init__(self, tenant: Tenant, slug: str = "bo", price: int = 10, signer: Ed25519Signer | None = None) -> None:
        self.signer = signer or ed25519_signer("provider", settings.KEYS_DIR)
        self.provider: Provider = register_provider(
            slug=slug,
            name=slug.title(),
            tenant=tenant,
            key_id=self.signer.key_id,
            payout="0x" + "b0" * 20,
            kinds=["text-to-image"],
            unit_type="cpu_ms",
            price=price,
        )

    def about(self, attempt: Attempt) -> dict[str, Any]:
        """What every claim about an attempt names."""
        return {
            "job_id": attempt.job_id,
            "job_nid": attempt.job.nid,
            "attempt": attempt.number,
            "fencing": attempt.fencing,
        }

    def signed(self, claim: str) -> dict[str, Any]:
        """Sign a claim as the lifecycle takes it."""
        return {"claim": claim, "signature": sign_text(self.signer, claim)}

    def start(self, attempt: Attempt, /, **changes: Any) -> Attempt:
        """Say that the work began."""
        fields = self.about(attempt) | {
            "provider": self.signer.key_id,
            "model": "tiny-shapes",
            "model_digest": "d" * 64,
            "device": "CPU test",
            "runner": "tests/1",
            "at": utc(timezone.now()),
        }
        claim = claim_text(STARTED, **(fields | changes))
        return lifecycle.start(fencing=attempt.fencing, worker="test", **self.signed(claim))

    def progress(self, attempt: Attempt, step: int, n: int) -> None:
        """Say how far it is, of 15 steps."""
        claim = claim_text(PROGRESS, **self.about(attempt), step=step, steps=15, at=utc(timezone.now()))
        lifecycle.progress(fencing=attempt.fencing, step=step, steps=15, n=n, **self.signed(claim))

    def completion(self, attempt: Attempt, /, *, png: bytes = PNG, keep: bool = True, **changes: Any) -> dict[str, Any]:
        """Make the claims of a completed job, its output in the store."""
        stored = house_store().put(BytesIO(png)) if keep else None
        sha256 = stored.sha256 if stored else "0" * 64
        now = utc(timezone.now())
        fields = self.about(attempt) | {
            "provider": self.signer.key_id,
            "outputs": [{"name": "picture.png", "sha256": sha256, "size": len(png), "mime": "image/png"}],
            "facts": {"diffusers": "0.42.1", "seed": 7},
            "meter": {"cpu_ms": {"value": 0, "quality": "measured", "source": "process-clock"}},
            "started_at": now,
            "finished_at": now,
        }
        usage = usage_text(
            UsageClaim(
                **{name: value for name, value in self.about(attempt).items() if name != "fencing"},
                provider=self.signer.key_id,
                payout=attempt.provider.payout,
                client="client",
                units=0,
                unit_type="cpu_ms",
                price=int(attempt.price),
                amount=0,
                model="tiny-shapes",
                prompt_hash=inputs_digest(attempt.job.answer["inputs"]),
                started_at=now,
                finished_at=now,
                artifact_sha256=sha256,
                nonce=b64url(secrets.token_bytes(16)),
                hub_id=settings.LOG_ORIGIN,
                chain_id=settings.CHAIN_ID,
            )
        )
        return self.signed(claim_text(COMPLETED, **(fields | changes))) | {
            "usage": usage,
            "usage_signature": sign_text(self.signer, usage),
        }

    def complete(self, attempt: Attempt, /, **changes: Any) -> Job:
        """Say that it is done."""
        return lifecycle.complete(fencing=attempt.fencing, **self.completion(attempt, **changes))

    def fail(self, attempt: Attempt, *, may_pass: bool, class_: str = "runner") -> Job:
        """Say that it failed."""
        claim = claim_text(FAILED, **self.about(attempt), **{"class": class_}, meter={}, at=utc(timezone.now()))
        return lifecycle.fail(
            fencing=attempt.fencing, class_=class_, detail="why", may_pass=may_pass, **self.signed(claim)
        )


def submit(tenant_id: str = "ada", *, key: str | None = None, fingerprint: str = "f" * 64, **changes: Any) -> str:
    """Submit a job and give its id."""
    request = JobRequest(**({"kind": "text-to-image", "model": "tiny-shapes", "inputs": dict(INPUTS)} | changes))
    return lifecycle.submit(
        tenant_id=tenant_id,
        request=request,
        idempotency_key=key,
        fingerprint=fingerprint,
        actor="api-key:ts_test",
    ).job_id


def leased(job_id: str) -> Attempt:
    """Schedule a job and give its attempt."""
    assert lifecycle.schedule(job_id=job_id) is not None
    return Attempt.objects.select_related("job", "provider").get(job_id=job_id, state=AttemptState.LEASED)


def story(job_id: str) -> list[str]:
    """The types of a job's receipts, in the order of their chain."""
    return list(Receipt.objects.filter(subject=job_id).order_by("seq").values_list("event_type", flat=True))


def let_the_lease_run_out(attempt: Attempt) -> None:
    """Set the lease's end into the past, as time would."""
    from datetime import timedelta

    Attempt.objects.filter(pk=attempt.pk).update(lease_until=timezone.now() - timedelta(seconds=1))
