"""What the house sends to a chain: intent first, then every hash it was sent under, then its outcome."""

from django.db import models
from django.db.models import Q


class TransactionState(models.TextChoices):
    """Where a transaction stands.

    intended -> sent -> mined -> final
       |         |  <----' |       |
       v         v         '--<----'   a reorg puts both back to sent
     failed   replaced
    """

    INTENDED = "intended", "Intended: written down, no nonce yet"
    SENT = "sent", "Sent: signed, stored and broadcast at least once"
    MINED = "mined", "Mined: in a block that may still be reorganised away"
    FINAL = "final", "Final: as many confirmations as the house asks for"
    REPLACED = "replaced", "Replaced: another transaction took its nonce"
    FAILED = "failed", "Failed: refused for good, or reverted by the chain"


MOVES: dict[TransactionState, frozenset[TransactionState]] = {
    TransactionState.INTENDED: frozenset({TransactionState.SENT, TransactionState.FAILED}),
    TransactionState.SENT: frozenset({TransactionState.MINED, TransactionState.REPLACED, TransactionState.FAILED}),
    TransactionState.MINED: frozenset({TransactionState.FINAL, TransactionState.SENT, TransactionState.FAILED}),
    TransactionState.FINAL: frozenset({TransactionState.SENT}),
    TransactionState.REPLACED: frozenset(),
    TransactionState.FAILED: frozenset(),
}


class Waiting(models.TextChoices):
    """Why a sender's queue waits: the words that alarms and admin go by."""

    NO_KEY = "no-key", "The key that pays can't be used"
    NODE = "node", "The node can't be reached, or does not answer as it should"
    WRONG_CHAIN = "wrong-chain", "The node serves another chain"
    NONCE = "nonce", "The node's count of our transactions can't be right, or one of them can't be told of"
    NO_FUNDS = "no-funds", "The sender can't pay"
    FEE_CAP = "fee-cap", "The chain asks for more than CHAIN_FEE_CAP_GWEI"
    PAUSED = "paused", "A contract is paused"
    GAS_BUDGET = "gas-budget", "A tenant's COMMIT_GAS_DAILY is used up until the next day"


class ChainTransaction(models.Model):
    """One intent to change a chain, sent at least once and landing at most once."""

    class Purpose(models.TextChoices):
        ANCHOR = "anchor"
        COMMIT = "commit"
        MINT = "mint"
        DEPLOY = "deploy"
        ADMIN = "admin"

    id = models.BigAutoField(primary_key=True)
    key = models.CharField(max_length=120, unique=True, help_text="what this does, once: repeating it finds this row")
    purpose = models.CharField(max_length=8, choices=Purpose.choices)
    tenant = models.ForeignKey("receipts.Tenant", null=True, blank=True, on_delete=models.PROTECT)
    chain_id = models.BigIntegerField()
    sender = models.CharField(max_length=42)
    to = models.CharField(max_length=42, blank=True, help_text="empty for a deployment")
    data = models.BinaryField()
    value = models.DecimalField(max_digits=78, decimal_places=0, default=0)
    gas_limit = models.BigIntegerField(null=True, blank=True)
    nonce = models.BigIntegerField(null=True, blank=True)
    state = models.CharField(max_length=8, choices=TransactionState.choices, default=TransactionState.INTENDED)
    hash = models.CharField(max_length=66, blank=True, help_text="the hash that was mined, else the newest sent")
    block_number = models.BigIntegerField(null=True, blank=True)
    block_hash = models.CharField(max_length=66, blank=True)
    block_time = models.DateTimeField(null=True, blank=True)
    gas_used = models.BigIntegerField(null=True, blank=True)
    contract_address = models.CharField(max_length=42, blank=True)
    reorgs = models.IntegerField(default=0)
    reason = models.CharField(max_length=300, blank=True, help_text="why it failed or waits")
    intended_at = models.DateTimeField(auto_now_add=True)
    sent_at = models.DateTimeField(null=True, blank=True)
    mined_at = models.DateTimeField(null=True, blank=True)
    final_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["chain_id", "sender", "nonce"], condition=Q(nonce__isnull=False), name="one_intent_a_nonce"
            )
        ]
        indexes = [
            models.Index(
                fields=["sender", "id"], condition=Q(state__in=["intended", "sent", "mined"]), name="transaction_open"
            ),
            models.Index(fields=["hash"], name="transaction_by_hash"),
            models.Index(fields=["sent_at", "tenant"], condition=Q(purpose="commit"), name="commit_gas_of_a_day"),
            models.Index(
                fields=["sender", "block_number"], condition=Q(state="final"), name="transaction_final_by_block"
            ),
            models.Index(fields=["id"], condition=Q(state="replaced"), name="transaction_replaced"),
        ]

    def __str__(self) -> str:
        return self.hash or self.key


class TransactionHash(models.Model):
    """One signed form of a transaction. A fee bump adds one; any of them may be the one that is mined."""

    hash = models.CharField(primary_key=True, max_length=66)
    transaction = models.ForeignKey(ChainTransaction, on_delete=models.PROTECT, related_name="hashes")
    raw = models.BinaryField(help_text="the signed bytes, stored before they are sent")
    max_fee_wei = models.DecimalField(max_digits=30, decimal_places=0)
    max_priority_fee_wei = models.DecimalField(max_digits=30, decimal_places=0)
    signed_at = models.DateTimeField(auto_now_add=True)
    last_sent_at = models.DateTimeField(null=True, blank=True)
    answer = models.CharField(max_length=300, blank=True, help_text="what the node said to the newest broadcast")

    class Meta:
        ordering = ["signed_at"]

    def __str__(self) -> str:
        return self.hash


class SenderStatus(models.Model):
    """How one sending key fares: its next nonce, and why its queue waits, if it does."""

    sender = models.CharField(max_length=42)
    chain_id = models.BigIntegerField()
    next_nonce = models.BigIntegerField(default=0)
    balance_wei = models.DecimalField(max_digits=78, decimal_places=0, null=True, blank=True)
    waiting_for = models.CharField(max_length=12, choices=Waiting.choices, blank=True)
    waiting_reason = models.CharField(max_length=300, blank=True)
    checked_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["sender", "chain_id"], name="one_status_a_sender")]
        verbose_name_plural = "sender status"

    def __str__(self) -> str:
        return f"{self.sender} on {self.chain_id}"


class Commit(models.Model):
    """One ERC-7053 commit: of a checkpoint (an anchor) or of a single receipt."""

    id = models.BigAutoField(primary_key=True)
    checkpoint = models.OneToOneField("receipts.Checkpoint", null=True, blank=True, on_delete=models.PROTECT)
    receipt = models.OneToOneField("receipts.Receipt", null=True, blank=True, on_delete=models.PROTECT)
    asset_cid = models.CharField(max_length=100)
    commit_data = models.TextField()
    transaction = models.OneToOneField(ChainTransaction, on_delete=models.PROTECT, related_name="commit")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.CheckConstraint(
                condition=Q(checkpoint__isnull=False, receipt__isnull=True)
                | Q(checkpoint__isnull=True, receipt__isnull=False),
                name="commit_of_one_thing",
            )
        ]

    def __str__(self) -> str:
        return f"commit on {self.asset_cid}"
