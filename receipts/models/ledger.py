"""Receipts, the log they are leaves of, and its checkpoints."""

from django.contrib.postgres.fields import ArrayField
from django.db import models


class Thread(models.Model):
    """The chain of one subject's receipts: where the next one links. Locked while it grows."""

    subject = models.CharField(primary_key=True, max_length=80)
    tenant = models.ForeignKey("receipts.Tenant", null=True, on_delete=models.PROTECT, db_index=False)
    first_nid = models.CharField(max_length=59)
    head_nid = models.CharField(max_length=59)
    seq = models.IntegerField(help_text="the number of the newest receipt, from 1")
    commit_each = models.BooleanField(
        db_default=False, help_text="whether each of its receipts is committed by itself; decided with the first one"
    )

    def __str__(self) -> str:
        return f"{self.subject} at {self.seq}"


class Receipt(models.Model):
    """One statement, as the exact bytes that were hashed. Never changed, not even to note its leaf."""

    id = models.BigAutoField(primary_key=True)
    nid = models.CharField(max_length=59, unique=True)
    tenant = models.ForeignKey("receipts.Tenant", null=True, on_delete=models.PROTECT, db_index=False)
    subject = models.CharField(max_length=80)
    event_type = models.CharField(max_length=32)
    attempt = models.IntegerField(default=0)
    n = models.IntegerField(default=0)
    seq = models.IntegerField()
    origin = models.CharField(max_length=10)
    occurred_at = models.DateTimeField()
    body = models.BinaryField()

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(
                fields=["tenant", "subject", "event_type", "attempt", "n"],
                name="one_receipt_a_move",
                nulls_distinct=False,
            ),
            models.UniqueConstraint(fields=["subject", "seq"], name="one_receipt_a_link"),
        ]

    def __str__(self) -> str:
        return f"{self.event_type} {self.nid}"


class Pending(models.Model):
    """A receipt that has no leaf yet; written with it, deleted with the bundle that gives it one."""

    receipt = models.OneToOneField("receipts.Receipt", primary_key=True, on_delete=models.PROTECT)

    class Meta:
        verbose_name_plural = "pending"

    def __str__(self) -> str:
        return f"pending receipt {self.receipt_id}"


class Uncommitted(models.Model):
    """A receipt that is to be committed by itself; written with it, deleted with the commit's intent."""

    receipt = models.OneToOneField("receipts.Receipt", primary_key=True, on_delete=models.PROTECT)

    class Meta:
        verbose_name_plural = "uncommitted"

    def __str__(self) -> str:
        return f"uncommitted receipt {self.receipt_id}"


class LogHead(models.Model):
    """The log's one mutable row: how many leaves have an index. Moved by compare-and-swap on `size`."""

    id = models.SmallIntegerField(primary_key=True, default=1)
    origin = models.CharField(max_length=200)
    first_vkey = models.CharField(max_length=300)
    nid = models.CharField(max_length=59)
    size = models.BigIntegerField(default=0)
    frontier = models.BinaryField(default=b"", help_text="roots of the full subtrees, largest first, 32 bytes each")

    class Meta:
        constraints = [models.CheckConstraint(condition=models.Q(id=1), name="one_log_head")]

    def __str__(self) -> str:
        return f"{self.origin} at {self.size}"


class Bundle(models.Model):
    """One batch of leaves, in order: receipt `receipt_ids[i]` is leaf `first_leaf + i`."""

    first_leaf = models.BigIntegerField(primary_key=True)
    count = models.IntegerField()
    receipt_ids = ArrayField(models.BigIntegerField())
    lowest_receipt = models.BigIntegerField()
    highest_receipt = models.BigIntegerField()
    entries = models.BinaryField(help_text="tlog-tiles entry bundle: each leaf entry behind its uint16 length")
    sequenced_at = models.DateTimeField()

    class Meta:
        ordering = ["first_leaf"]
        indexes = [models.Index(fields=["lowest_receipt", "highest_receipt"], name="bundle_by_receipts")]

    def __str__(self) -> str:
        return f"leaves {self.first_leaf} to {self.first_leaf + self.count - 1}"


class Checkpoint(models.Model):
    """The signed size and root of the log. Committed here before it is published."""

    size = models.BigIntegerField(primary_key=True)
    root = models.BinaryField()
    note = models.TextField(help_text="the C2SP signed note, exactly as published")
    signed_at = models.DateTimeField(help_text="by the database's clock")

    class Meta:
        ordering = ["size"]

    def __str__(self) -> str:
        return f"checkpoint of {self.size}"
