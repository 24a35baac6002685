"""What was erased, why, and by which logged act."""

from django.db import models


class Erasure(models.Model):
    """Bytes that are gone by law, by policy or by their owner's wish. Their NID stays, in the log and here."""

    class Reason(models.TextChoices):
        LAW = "law", "by law"
        POLICY = "policy", "by policy"
        OWNER = "owner", "by their owner's wish"

    nid = models.CharField(primary_key=True, max_length=59, help_text="of the bytes: a receipt's, or an artifact's")
    sha256 = models.CharField(max_length=64, unique=True, help_text="the digest inside the NID, as blobs are named")
    receipt = models.OneToOneField(
        "receipts.Receipt", null=True, on_delete=models.PROTECT, related_name="erasure", help_text="if it was one"
    )
    reason = models.CharField(max_length=6, choices=Reason.choices)
    act = models.OneToOneField("receipts.Receipt", on_delete=models.PROTECT, related_name="+")
    erased_at = models.DateTimeField()

    class Meta:
        ordering = ["-erased_at"]

    def __str__(self) -> str:
        return f"{self.nid} erased {self.get_reason_display()}"
