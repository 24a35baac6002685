"""Artifacts: which bytes are whose output, and which credential stands on them."""

from django.db import models


class Blob(models.Model):
    """Bytes in the store, named by their SHA-256. Equal bytes are one file, so a blob has no tenant."""

    sha256 = models.CharField(primary_key=True, max_length=64)
    size = models.BigIntegerField()
    mime = models.CharField(max_length=127)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=models.Q(sha256__regex=r"^[0-9a-f]{64}$"), name="blob_named_by_digest"),
            models.CheckConstraint(condition=models.Q(size__gte=0), name="blob_has_a_size"),
        ]

    def __str__(self) -> str:
        return self.sha256


class Artifact(models.Model):
    """A tenant's name for a blob, within one subject (a job): its output as made, as signed, or a manifest."""

    class Role(models.TextChoices):
        OUTPUT = "output", "as the worker made it"
        SIGNED = "signed", "with its Content Credentials"
        MANIFEST = "manifest", "the detached credential of a file that can't hold one"

    id = models.BigAutoField(primary_key=True)
    tenant = models.ForeignKey("receipts.Tenant", on_delete=models.PROTECT)
    subject = models.CharField(max_length=80)
    role = models.CharField(max_length=8, choices=Role.choices)
    name = models.CharField(max_length=255)
    blob = models.ForeignKey(Blob, on_delete=models.PROTECT, related_name="artifacts")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(fields=["tenant", "subject", "role", "name"], name="one_artifact_a_name")
        ]

    def __str__(self) -> str:
        return f"{self.subject} {self.name} ({self.role})"


class Credential(models.Model):
    """Which signed file is *the* signed one: C2PA output is not deterministic, so this row decides."""

    id = models.BigAutoField(primary_key=True)
    tenant = models.ForeignKey("receipts.Tenant", on_delete=models.PROTECT)
    subject = models.CharField(max_length=80)
    unsigned_sha256 = models.CharField(max_length=64)
    signed = models.ForeignKey(Blob, on_delete=models.PROTECT, related_name="+")
    manifest = models.ForeignKey(Blob, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    mime = models.CharField(max_length=127)
    manifest_label = models.CharField(max_length=255)
    embedded = models.BooleanField()
    alg = models.CharField(max_length=16)
    certificate_sha256 = models.CharField(max_length=64)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(fields=["tenant", "subject", "unsigned_sha256"], name="one_credential_an_output")
        ]

    def __str__(self) -> str:
        return self.manifest_label
