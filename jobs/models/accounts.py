"""Who may come in: people in the console, programs with API keys."""

from django.contrib.auth.models import AbstractUser
from django.db import models


class User(AbstractUser):
    """A person of one tenant, or of the house itself when `tenant` is empty."""

    class Role(models.TextChoices):
        CLIENT = "client", "Client: their own tenant's jobs"
        AUDITOR = "auditor", "Auditor: reads all evidence, changes nothing"
        OPERATOR = "operator", "Operator: runs the house"

    tenant = models.ForeignKey("receipts.Tenant", null=True, blank=True, on_delete=models.PROTECT)
    role = models.CharField(max_length=8, choices=Role.choices, default=Role.CLIENT)


class ApiKey(models.Model):
    """A program's key: its prefix finds the row, the SHA-256 of the whole proves it. Shown once, never stored."""

    prefix = models.CharField(max_length=12, unique=True)
    digest = models.CharField(max_length=64)
    tenant = models.ForeignKey("receipts.Tenant", on_delete=models.PROTECT)
    label = models.CharField(max_length=80, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    revoked_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["id"]

    def __str__(self) -> str:
        return f"{self.prefix}… of {self.tenant_id}"
