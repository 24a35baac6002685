"""The state machines of a job, of one attempt at it, and of its evidence. Pure.

        submitted ---> scheduled ---> running ---> completed
         |  ^  ^-----------'           |  |
         |  '--------------------------'  |          requeued: no start in time, lease lost, a failure that may pass
         v             v                  v
        failed / cancelled, from any unfinished state

Reported jobs may go from submitted to running at once: their cluster has a scheduler of its own.
"""

from django.db.models import TextChoices


class JobState(TextChoices):
    """Where a job stands."""

    SUBMITTED = "submitted", "Submitted: waiting for a provider"
    SCHEDULED = "scheduled", "Scheduled: leased to a provider that has not started"
    RUNNING = "running", "Running: a worker holds the lease and reports"
    COMPLETED = "completed", "Completed: its output is kept"
    FAILED = "failed", "Failed: it will not be tried again"
    CANCELLED = "cancelled", "Cancelled: its client or an operator called it off"


class AttemptState(TextChoices):
    """Where one try of a job stands."""

    LEASED = "leased", "Leased: granted, not started"
    RUNNING = "running", "Running: heartbeats extend its lease"
    SUCCEEDED = "succeeded", "Succeeded: its output was accepted"
    FAILED = "failed", "Failed: its worker said so, or the job was called off"
    LOST = "lost", "Lost: its lease ran out"


class EvidenceState(TextChoices):
    """Which piece of evidence a job is due next; a crash between two never re-runs the work."""

    NONE = "none", "None: the job has no output yet"
    CREDENTIAL = "credential", "Credential due"
    USAGE = "usage", "Usage receipt due"
    ATTESTATION = "attestation", "Attestation due"
    MINT = "mint", "Mint due"
    COMPLETE = "complete", "Complete"


JOB_MOVES: dict[JobState, frozenset[JobState]] = {
    JobState.SUBMITTED: frozenset({JobState.SCHEDULED, JobState.RUNNING, JobState.FAILED, JobState.CANCELLED}),
    JobState.SCHEDULED: frozenset({JobState.RUNNING, JobState.SUBMITTED, JobState.FAILED, JobState.CANCELLED}),
    JobState.RUNNING: frozenset({JobState.COMPLETED, JobState.SUBMITTED, JobState.FAILED, JobState.CANCELLED}),
    JobState.COMPLETED: frozenset(),
    JobState.FAILED: frozenset(),
    JobState.CANCELLED: frozenset(),
}

ATTEMPT_MOVES: dict[AttemptState, frozenset[AttemptState]] = {
    AttemptState.LEASED: frozenset({AttemptState.RUNNING, AttemptState.FAILED, AttemptState.LOST}),
    AttemptState.RUNNING: frozenset({AttemptState.SUCCEEDED, AttemptState.FAILED, AttemptState.LOST}),
    AttemptState.SUCCEEDED: frozenset(),
    AttemptState.FAILED: frozenset(),
    AttemptState.LOST: frozenset(),
}

EVIDENCE_MOVES: dict[EvidenceState, frozenset[EvidenceState]] = {
    EvidenceState.NONE: frozenset({EvidenceState.CREDENTIAL}),
    EvidenceState.CREDENTIAL: frozenset({EvidenceState.USAGE}),
    EvidenceState.USAGE: frozenset({EvidenceState.ATTESTATION, EvidenceState.COMPLETE}),
    EvidenceState.ATTESTATION: frozenset({EvidenceState.MINT, EvidenceState.COMPLETE}),
    EvidenceState.MINT: frozenset({EvidenceState.COMPLETE}),
    EvidenceState.COMPLETE: frozenset(),
}

UNFINISHED = frozenset({JobState.SUBMITTED, JobState.SCHEDULED, JobState.RUNNING})
ONLY_REPORTED = frozenset({(JobState.SUBMITTED, JobState.RUNNING)})
