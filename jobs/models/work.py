"""Jobs and the attempts at them. A row is the message: PostgreSQL is the queue of record."""

from functools import cache
from typing import Any

from django.db import models
from django.db.models import Q
from psycopg.types.json import Jsonb

from jobs.models.providers import Provider
from jobs.states import UNFINISHED, AttemptState, EvidenceState, JobState


class Kind(models.TextChoices):
    """The kinds of work, by the slug that stands everywhere."""

    TEXT_TO_IMAGE = "text-to-image", "Text to image"
    TEXT_GENERATION = "text-generation", "Text generation"
    FINE_TUNING = "fine-tuning", "Fine-tuning"
    UPSCALING = "upscaling", "Upscaling"
    SPEECH_TO_TEXT = "speech-to-text", "Speech to text"
    ZK_PROOF = "zk-proof", "Zero-knowledge proof"


class Origin(models.TextChoices):
    """Who ran the work, said wherever a reader could be misled."""

    HOSTED = "hosted", "Hosted: our fleet ran it"
    REPORTED = "reported", "Reported: another cluster says so"
    SIMULATED = "simulated", "Simulated: nothing was computed"


class JobQuerySet(models.QuerySet["Job"]):
    """Adjectives for jobs; admin filters, API and pipeline share them."""

    def of(self, tenant_id: str) -> "JobQuerySet":
        return self.filter(tenant_id=tenant_id)

    def unfinished(self) -> "JobQuerySet":
        return self.filter(state__in=UNFINISHED)

    def waiting(self) -> "JobQuerySet":
        """Submitted jobs in the order in which they are offered: by priority, then by age."""
        return self.filter(state=JobState.SUBMITTED).order_by("-priority", "created_at")

    def lacking_evidence(self) -> "JobQuerySet":
        """Jobs with output that are due a credential, usage receipt, attestation or mint."""
        return self.exclude(evidence__in=[EvidenceState.NONE, EvidenceState.COMPLETE])

    def unminted(self) -> "JobQuerySet":
        """Completed jobs whose tokens are not on the chain yet."""
        return self.filter(state=JobState.COMPLETED).exclude(evidence=EvidenceState.COMPLETE)


def job_row(**facts: Any) -> dict[str, Any]:
    """Give the row that `create` would write, by column, without what the database fills in by itself.

    To have Django build it costs more than to write it.
    """
    as_json, plain = _kinds()
    row = {column: value for column, value in facts.items() if column in plain and value is not None}
    row |= {column: Jsonb(facts[column]) for column in as_json}
    return row


@cache
def _kinds() -> tuple[list[str], frozenset[str]]:
    fields = Job._meta.concrete_fields
    as_json = [str(field.column) for field in fields if isinstance(field, models.JSONField)]
    return as_json, frozenset(str(field.column) for field in fields) - frozenset(as_json)


class Job(models.Model):
    """What a client asks for, and where it stands. Inputs are private; receipts hold their salted digests."""

    job_id = models.CharField(primary_key=True, max_length=30)
    tenant = models.ForeignKey("receipts.Tenant", on_delete=models.PROTECT, db_index=False)
    nid = models.CharField(max_length=59, unique=True, help_text="of its JobSubmitted receipt")
    kind = models.CharField(max_length=20, choices=Kind.choices)
    model = models.CharField(max_length=200)
    origin = models.CharField(max_length=10, choices=Origin.choices, default=Origin.HOSTED, db_default=Origin.HOSTED)
    state = models.CharField(
        max_length=10, choices=JobState.choices, default=JobState.SUBMITTED, db_default=JobState.SUBMITTED
    )
    evidence = models.CharField(
        max_length=12, choices=EvidenceState.choices, default=EvidenceState.NONE, db_default=EvidenceState.NONE
    )
    attempt = models.IntegerField(default=0, db_default=0, help_text="how often it was leased")
    inputs = models.JSONField()
    salts = models.JSONField(help_text="16-byte salts of the inputs' digests, base64url; parties only")
    client_key = models.CharField(
        max_length=66, blank=True, default="", db_default="", help_text="who signed the request; empty if unsigned"
    )
    max_price = models.DecimalField(max_digits=78, decimal_places=0, null=True, blank=True)
    priority = models.SmallIntegerField(default=0, db_default=0)
    expires_at = models.DateTimeField()
    idempotency_key = models.CharField(max_length=120, null=True, blank=True)
    fingerprint = models.CharField(max_length=64, help_text="SHA-256 of the request as it came")
    promise = models.JSONField()
    answer = models.JSONField(help_text="what the client was told first; a repeated request is told the same")
    step = models.IntegerField(default=0, db_default=0)
    steps = models.IntegerField(default=0, db_default=0)
    failure_class = models.CharField(max_length=20, blank=True, default="", db_default="")
    failure_detail = models.TextField(
        blank=True, default="", db_default="", help_text="private: parties and auditors only"
    )
    created_at = models.DateTimeField()
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)
    evidence_due_at = models.DateTimeField(null=True, blank=True, help_text="not before this time: backoff")
    evidence_tries = models.IntegerField(default=0, db_default=0)
    evidence_reason = models.CharField(
        max_length=300, blank=True, default="", db_default="", help_text="why its evidence waits, if it does"
    )

    objects = JobQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at"]
        constraints = [
            models.UniqueConstraint(
                fields=["tenant", "idempotency_key"],
                condition=Q(idempotency_key__isnull=False),
                name="one_job_an_idempotency_key",
            )
        ]
        indexes = [
            models.Index(fields=["tenant", "-created_at"], name="job_of_tenant"),
            models.Index(fields=["-created_at"], name="job_newest"),
            models.Index(
                fields=["tenant"], condition=Q(state__in=["submitted", "scheduled", "running"]), name="job_unfinished"
            ),
            models.Index(fields=["-priority", "created_at"], condition=Q(state="submitted"), name="job_waiting"),
            models.Index(
                fields=["evidence_due_at"],
                condition=~Q(evidence__in=["none", "complete"]),
                name="job_lacking_evidence",
            ),
        ]

    def __str__(self) -> str:
        return self.job_id

    @property
    def finished(self) -> bool:
        """Whether no move leads on from here."""
        return self.state not in UNFINISHED


class Attempt(models.Model):
    """One try of a job by one worker, under a lease. Its id is the fencing number: later leases have higher ones."""

    id = models.BigAutoField(primary_key=True)
    job = models.ForeignKey(Job, on_delete=models.PROTECT, related_name="attempts")
    number = models.IntegerField(help_text="from 1")
    provider = models.ForeignKey(Provider, on_delete=models.PROTECT)
    state = models.CharField(max_length=10, choices=AttemptState.choices, default=AttemptState.LEASED)
    price = models.DecimalField(max_digits=78, decimal_places=0)
    unit_type = models.CharField(max_length=10)
    lease_until = models.DateTimeField()
    worker = models.CharField(max_length=120, blank=True)
    leased_at = models.DateTimeField()
    started_at = models.DateTimeField(null=True, blank=True)
    heartbeat_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)
    completion = models.JSONField(null=True, blank=True, help_text="the provider's claims: completed and usage, signed")

    class Meta:
        ordering = ["id"]
        constraints = [models.UniqueConstraint(fields=["job", "number"], name="one_attempt_a_number")]
        indexes = [
            models.Index(fields=["lease_until"], condition=Q(state__in=["leased", "running"]), name="attempt_by_lease"),
            models.Index(
                fields=["provider", "id"], condition=Q(state__in=["leased", "running"]), name="attempt_of_provider"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.job_id} attempt {self.number}"

    @property
    def fencing(self) -> int:
        """The fencing number that every act under this lease carries."""
        return self.pk
