"""Witnesses: the logs that this house watches for others, and what others' witnesses said of its own."""

from django.contrib.postgres.fields import ArrayField
from django.db import models

from receipts.checkpoint import parse_note
from receipts.models.ledger import Checkpoint


class WitnessedLog(models.Model):
    """Another house's log, as this house last saw and cosigned it. Moved by compare-and-swap on `size`.

    A log that is watched no more keeps its row: who forgets what it cosigned can be led to cosign a fork.
    """

    origin = models.CharField(max_length=200, unique=True)
    vkeys = ArrayField(models.CharField(max_length=300), help_text="the keys that sign this log's checkpoints")
    url = models.CharField(max_length=300, blank=True, help_text="where people find that house")
    watched = models.BooleanField(default=True)
    size = models.BigIntegerField(default=0)
    root = models.BinaryField()
    added_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["origin"]
        verbose_name = "witnessed log"

    def __str__(self) -> str:
        return f"{self.origin} at {self.size}"


class WitnessedCheckpoint(models.Model):
    """A checkpoint of another's log that this house cosigned: one a size, so that two roots never stand beside it."""

    id = models.BigAutoField(primary_key=True)
    log = models.ForeignKey(WitnessedLog, on_delete=models.PROTECT, related_name="cosigned", db_index=False)
    size = models.BigIntegerField()
    root = models.BinaryField()
    note = models.TextField(help_text="the note as its log signed it")
    cosigned_at = models.DateTimeField(help_text="by the database's clock; the cosignature tells the same second")

    class Meta:
        ordering = ["-id"]
        verbose_name = "witnessed checkpoint"
        constraints = [models.UniqueConstraint(fields=["log", "size"], name="one_root_a_size")]

    def __str__(self) -> str:
        return f"{self.size} leaves"


class Misbehaviour(models.Model):
    """Evidence against another's log: a signed checkpoint that does not go on from the one that was cosigned."""

    class Kind(models.TextChoices):
        FORK = "fork", "Two roots for one size"
        BAD_PROOF = "bad-proof", "No proof that it only grew"

    id = models.BigAutoField(primary_key=True)
    log = models.ForeignKey(WitnessedLog, on_delete=models.PROTECT, related_name="misbehaviours", db_index=False)
    kind = models.CharField(max_length=9, choices=Kind.choices)
    size = models.BigIntegerField()
    root = models.BinaryField()
    note = models.TextField(help_text="the checkpoint that was refused, as its log signed it")
    old_size = models.BigIntegerField(help_text="from which size the proof was said to lead")
    proof = ArrayField(models.BinaryField(), help_text="the hashes that came as proof")
    cosigned_note = models.TextField(help_text="the checkpoint that was cosigned before, as its log signed it")
    reason = models.TextField()
    seen_at = models.DateTimeField(help_text="by the database's clock")

    class Meta:
        ordering = ["-id"]
        constraints = [models.UniqueConstraint(fields=["log", "kind", "size", "root"], name="one_row_a_misbehaviour")]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} at {self.size}"


class Cosignature(models.Model):
    """What a witness signed under a checkpoint of ours: kept as the very line that is published."""

    id = models.BigAutoField(primary_key=True)
    checkpoint = models.ForeignKey(Checkpoint, on_delete=models.PROTECT, related_name="cosignatures", db_index=False)
    vkey = models.CharField(max_length=300)
    line = models.TextField(help_text="the signature line, with its newline")
    signed_at = models.DateTimeField(help_text="by the witness's clock")
    received_at = models.DateTimeField(help_text="by the database's clock")

    class Meta:
        ordering = ["id"]
        constraints = [models.UniqueConstraint(fields=["checkpoint", "vkey"], name="one_cosignature_a_witness")]

    def __str__(self) -> str:
        return f"{self.vkey.partition('+')[0]} at {self.checkpoint_id}"


class WitnessStatus(models.Model):
    """When a witness of ours is asked next, and how it answered last. Bookkeeping, not evidence."""

    vkey = models.CharField(primary_key=True, max_length=300)
    failures = models.IntegerField(default=0, help_text="in a row")
    ask_after = models.DateTimeField()
    claimed_until = models.DateTimeField(null=True, help_text="somebody is asking it; ends by itself after a crash")
    told = models.TextField(blank=True, help_text="the last answer, in our words")
    told_at = models.DateTimeField()

    class Meta:
        verbose_name_plural = "witness status"

    def __str__(self) -> str:
        return self.vkey.partition("+")[0]


class WitnessAlarm(models.Model):
    """What a witness of ours should never have said: another history, or another one of its own."""

    class Kind(models.TextChoices):
        REFUSED = "refused", "It finds that our checkpoint does not go on from an earlier one"
        AHEAD = "ahead", "It has cosigned more leaves than we have"
        WENT_BACK = "went-back", "It forgot what it had cosigned"
        BAD_COSIGNATURE = "bad-cosignature", "Its cosignature does not fit"

    id = models.BigAutoField(primary_key=True)
    vkey = models.CharField(max_length=300)
    checkpoint = models.ForeignKey(Checkpoint, on_delete=models.PROTECT, related_name="alarms", db_index=False)
    kind = models.CharField(max_length=15, choices=Kind.choices)
    status = models.IntegerField(help_text="HTTP's")
    answer = models.TextField(help_text="what it said, cut to a page")
    seen_at = models.DateTimeField(help_text="by the database's clock")

    class Meta:
        ordering = ["-id"]
        constraints = [models.UniqueConstraint(fields=["checkpoint", "vkey", "kind"], name="one_alarm_a_kind")]

    def __str__(self) -> str:
        return f"{self.vkey.partition('+')[0]} about {self.checkpoint_id}: {self.kind}"


def published_note(checkpoint: Checkpoint) -> str:
    """Give a checkpoint as it is published: the log's signature first, then each witness's, as they came."""
    rows = list(Cosignature.objects.filter(checkpoint=checkpoint))
    if not rows:
        return checkpoint.note
    # A row that was recovered from a published copy has its witnesses' lines already: nobody signs one note twice.
    there = tuple(f"{item.name}+{item.key_hash.hex()}+" for item in parse_note(checkpoint.note).signatures)
    return checkpoint.note + "".join(row.line for row in rows if not row.vkey.startswith(there))
