"""Who serves GPU time."""

from django.contrib.postgres.fields import ArrayField
from django.db import models


class Provider(models.Model):
    """A provider: a key, an address that its tokens go to, a price, and how it has fared."""

    class UnitType(models.TextChoices):
        GPU_MS = "gpu_ms", "GPU milliseconds"
        CPU_MS = "cpu_ms", "CPU milliseconds"

    slug = models.SlugField(max_length=40, unique=True)
    tenant = models.ForeignKey("receipts.Tenant", on_delete=models.PROTECT)
    name = models.CharField(max_length=80)
    key_id = models.CharField(max_length=66, unique=True)
    payout = models.CharField(max_length=42, help_text="the address that tokens are minted to")
    kinds = ArrayField(models.CharField(max_length=20))
    unit_type = models.CharField(max_length=10, choices=UnitType.choices)
    price = models.DecimalField(max_digits=78, decimal_places=0, help_text="smallest token units for each unit served")
    capacity = models.IntegerField(default=1, help_text="jobs at once")
    active = models.BooleanField(default=True)
    last_seen = models.DateTimeField(null=True, blank=True)
    successes = models.BigIntegerField(default=0)
    failures = models.BigIntegerField(default=0)
    quality_ppm_total = models.BigIntegerField(default=0, help_text="sum over all attempts; a failure adds 0")
    duration_ms_total = models.BigIntegerField(default=0)
    registered_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["slug"]

    def __str__(self) -> str:
        return self.name

    @property
    def queue(self) -> str:
        """The Celery queue that wakes this provider's workers."""
        return f"provider-{self.slug}"
