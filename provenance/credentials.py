"""Keep artifacts and credentials as rows: which bytes are whose output, and which signed file is the signed one.

`keep()` runs inside the caller's transaction, beside the CredentialIssued receipt, and is idempotent by
(tenant, job, unsigned digest): whoever comes second gets the first one's row, and its own signed blob
stays in the store without a name.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from django.conf import settings

from provenance.digests import Sha256, as_sha256
from provenance.errors import NameTaken
from provenance.models import Artifact, Blob, Credential
from provenance.store import Stored, house_store
from receipts.models import Tenant

if TYPE_CHECKING:
    # Signing and X.509 take long to import, and most who keep rows sign nothing.
    from provenance.authority import Authority
    from provenance.manifest import CredentialFacts
    from provenance.sign import PreparedCredential
    from provenance.signers.base import CredentialSigner


@dataclass(frozen=True, kw_only=True)
class IssuedCredential:
    """The credential that stands on an output, and what the CredentialIssued receipt says of it."""

    unsigned_sha256: Sha256
    signed_sha256: Sha256
    signed_size: int
    mime: str
    manifest_sha256: Sha256 | None  # of the detached manifest; None where it is embedded
    manifest_label: str
    embedded: bool
    alg: str
    certificate_sha256: str


def house_signer() -> "CredentialSigner":
    """Give the signer that the settings name; it is loaded anew each time, so a renewed leaf needs no restart.

    Raises: AuthorityMissing, AuthorityBroken.
    """
    from provenance.signers.file import FileSigner

    return FileSigner(house_authority())


def house_authority() -> "Authority":
    """Load the house's certificates; a trust file needs `root_pem`. Raises: AuthorityMissing, AuthorityBroken."""
    from provenance.authority import load_authority

    return load_authority(Path(settings.KEYS_DIR) / "c2pa")


def find_credential(*, tenant: Tenant, subject: str, unsigned_sha256: str) -> IssuedCredential | None:
    """Find the credential of an output, so that nothing is signed twice."""
    rows = Credential.objects.select_related("signed").filter(
        tenant=tenant, subject=subject, unsigned_sha256=as_sha256(unsigned_sha256)
    )
    row = rows.first()
    return _issued(row) if row else None


def prepare_credential(*, mime: str, facts: "CredentialFacts") -> "PreparedCredential":
    """Sign an output with the house's key into the house's store. Slow: call it in a worker, outside a transaction.

    Raises: BlobMissing, NotSignable, SigningFailed, StoreFull, AuthorityMissing, AuthorityBroken.
    """
    from provenance.sign import prepare

    return prepare(
        store=house_store(),
        signer=house_signer(),
        mime=mime,
        facts=facts,
        max_bytes=settings.C2PA_MAX_BYTES,
        version=settings.VERSION,
    )


def keep(*, tenant: Tenant, prepared: "PreparedCredential") -> IssuedCredential:
    """Write the rows of a prepared credential, or give the one that stands there already.

    Belongs into the caller's transaction. A rolled back one leaves the signed blob without a name.
    """
    facts = prepared.facts
    signed = _keep_blob(prepared.signed, prepared.mime)
    manifest = _keep_blob(prepared.manifest, "application/c2pa") if prepared.manifest else None
    row, is_new = Credential.objects.select_related("signed").get_or_create(
        tenant=tenant,
        subject=facts.job_id,
        unsigned_sha256=facts.unsigned_sha256,
        defaults={
            "signed": signed,
            "manifest": manifest,
            "mime": prepared.mime,
            "manifest_label": prepared.manifest_label,
            "embedded": prepared.embedded,
            "alg": "ES256",
            "certificate_sha256": prepared.certificate_sha256,
        },
    )
    if is_new:
        _name_artifacts(tenant, facts, signed, manifest)
    return _issued(row)


def keep_artifact(
    *, tenant: Tenant, subject: str, role: Artifact.Role, name: str, stored: Stored, mime: str
) -> Artifact:
    """Give a blob that is in the store a tenant's name; the same name with the same bytes again changes nothing.

    Raises: NameTaken, when the name stands for other bytes already.
    """
    blob = _keep_blob(stored, mime)
    # Added first and asked for then: as often as not the name is new, and get_or_create asks four times.
    wanted = Artifact(tenant=tenant, subject=subject, role=role, name=name, blob=blob)
    Artifact.objects.bulk_create([wanted], ignore_conflicts=True)
    artifact = Artifact.objects.get(tenant=tenant, subject=subject, role=role, name=name)
    if artifact.blob_id != blob.sha256:
        raise NameTaken(f"{subject} {name} ({role})", artifact.blob_id)
    return artifact


def _keep_blob(stored: Stored, mime: str) -> Blob:
    Blob.objects.bulk_create([Blob(sha256=stored.sha256, size=stored.size, mime=mime)], ignore_conflicts=True)
    return Blob.objects.get(sha256=stored.sha256)


def _name_artifacts(tenant: Tenant, facts: "CredentialFacts", signed: Blob, manifest: Blob | None) -> None:
    output = Artifact.objects.filter(
        tenant=tenant, subject=facts.job_id, role=Artifact.Role.OUTPUT, blob_id=facts.unsigned_sha256
    ).first()
    name = output.name if output else facts.kind
    Artifact.objects.create(tenant=tenant, subject=facts.job_id, role=Artifact.Role.SIGNED, name=name, blob=signed)
    if manifest:
        Artifact.objects.create(
            tenant=tenant, subject=facts.job_id, role=Artifact.Role.MANIFEST, name=f"{name}.c2pa", blob=manifest
        )


def _issued(row: Credential) -> IssuedCredential:
    return IssuedCredential(
        unsigned_sha256=Sha256(row.unsigned_sha256),
        signed_sha256=Sha256(row.signed_id),
        signed_size=row.signed.size,
        mime=row.mime,
        manifest_sha256=Sha256(row.manifest_id) if row.manifest_id else None,
        manifest_label=row.manifest_label,
        embedded=row.embedded,
        alg=row.alg,
        certificate_sha256=row.certificate_sha256,
    )
