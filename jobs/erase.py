"""Erase what a job was asked and what it made, by logged acts; its receipts, which name all of it by digests, stay.

inputs, salts, failure text    emptied in the job's row: without its salt a digest says nothing of what it is of
artifacts                      removed from the store, unless another job made the very same bytes
a receipt's bytes              only when asked for by its NID, with `receipts.erase`
"""

from dataclasses import dataclass

from django.db import transaction

from jobs.errors import NotYet
from jobs.lifecycle import locked
from jobs.models import Job
from jobs.states import EvidenceState, JobState
from provenance.models import Artifact
from provenance.store import house_store
from receipts.canonical import nid_of_digest
from receipts.erase import erasure_of_file, record_erasure
from receipts.models import Erasure


@dataclass(frozen=True, slots=True)
class Erased:
    """What went: the acts, newest last, and the artifacts that stay because another job has the same bytes."""

    job_id: str
    acts: tuple[Erasure, ...]
    shared: tuple[str, ...]


def erase_job(*, job_id: str, reason: str) -> Erased:
    """Erase a job's inputs and artifacts. Doing so again finishes what was interrupted, and records nothing twice.

    Raises: Job.DoesNotExist; NotYet, while work or evidence is still to come: it reads what would be erased.
    """
    acts, shared = list[Erasure](), list[str]()
    with transaction.atomic():
        job = locked(job_id)
        if job.state not in (JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED):
            raise NotYet(f"{job_id} is {job.state}: cancel it first")
        if job.evidence not in (EvidenceState.NONE, EvidenceState.COMPLETE):
            raise NotYet(f"{job_id} waits for its evidence ({job.evidence}), which reads what would be erased")
        own = Artifact.objects.filter(tenant_id=job.tenant_id, subject=job_id)
        for sha256 in sorted(set(own.values_list("blob_id", flat=True))):
            if Artifact.objects.filter(blob_id=sha256).exclude(tenant_id=job.tenant_id, subject=job_id).exists():
                shared.append(sha256)
                continue
            known = erasure_of_file(sha256)
            acts.append(known or record_erasure(nid_of_digest(bytes.fromhex(sha256)), reason=reason))
        Job.objects.filter(pk=job_id).update(
            inputs={},
            salts={},
            failure_detail="",
            answer={name: value for name, value in job.answer.items() if name != "salts"},
        )
    # The acts are durable. A crash from here on leaves files that the same command removes when it is run again.
    store = house_store()
    for act in acts:
        store.remove(act.sha256)
    return Erased(job_id, tuple(acts), tuple(shared))
