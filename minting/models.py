"""Usage claims and the mint that each leads to, once."""

from django.db import models


class MintState(models.TextChoices):
    """Where a mint stands.

    wanted -> attested -> sent -> minted
       |          |         |
       '----------'---------'---> refused
    """

    WANTED = "wanted", "Wanted: the provider claims usage, the hub has not attested it"
    ATTESTED = "attested", "Attested: the hub signed that the claim fits what it saw"
    SENT = "sent", "Sent: the mint's transaction is stored and under way"
    MINTED = "minted", "Minted: final on the chain"
    REFUSED = "refused", "Refused: the claim does not fit, or the chain said no"


MOVES: dict[MintState, frozenset[MintState]] = {
    MintState.WANTED: frozenset({MintState.ATTESTED, MintState.REFUSED}),
    MintState.ATTESTED: frozenset({MintState.SENT, MintState.REFUSED}),
    MintState.SENT: frozenset({MintState.MINTED, MintState.REFUSED}),
    MintState.MINTED: frozenset(),
    MintState.REFUSED: frozenset(),
}


class Usage(models.Model):
    """What a provider claims to have served, as the exact text it signed, and what became of it."""

    id = models.BigAutoField(primary_key=True)
    tenant = models.ForeignKey("receipts.Tenant", on_delete=models.PROTECT)
    subject = models.CharField(max_length=80, unique=True, help_text="the job served; one usage claim a job")
    receipt_hash = models.CharField(max_length=66, unique=True, help_text="keccak256 of the signed text")
    text = models.TextField()
    signature = models.JSONField()
    provider = models.CharField(max_length=66, help_text="the provider's key id")
    payout = models.CharField(max_length=42)
    units = models.BigIntegerField()
    unit_type = models.CharField(max_length=10)
    price = models.DecimalField(max_digits=78, decimal_places=0)
    amount = models.DecimalField(max_digits=78, decimal_places=0)
    usage_receipt = models.OneToOneField("receipts.Receipt", on_delete=models.PROTECT, related_name="usage")
    state = models.CharField(max_length=8, choices=MintState.choices, default=MintState.WANTED)
    acceptance = models.CharField(max_length=10, default="none")
    attestation = models.JSONField(null=True, blank=True, help_text="deadline and the attesters' signatures")
    attested_receipt = models.OneToOneField(
        "receipts.Receipt", null=True, blank=True, on_delete=models.PROTECT, related_name="attested_usage"
    )
    transaction = models.OneToOneField(
        "receipts.ChainTransaction", null=True, blank=True, on_delete=models.PROTECT, related_name="usage"
    )
    minted_receipt = models.OneToOneField(
        "receipts.Receipt", null=True, blank=True, on_delete=models.PROTECT, related_name="minted_usage"
    )
    reason = models.CharField(max_length=300, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-id"]
        verbose_name_plural = "usage"
        indexes = [
            models.Index(
                fields=["id"], condition=models.Q(state__in=["wanted", "attested", "sent"]), name="usage_unminted"
            )
        ]

    def __str__(self) -> str:
        return self.receipt_hash
