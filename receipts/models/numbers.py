"""What the house registers and commits on Numbers Protocol: the intent first, every attempt, the outcome."""

from django.db import models
from django.db.models import Q


class NumbersState(models.TextChoices):
    """Where an order stands.

         .------------------.
         v                  |
    intended -> sent -> unknown
       | |      | | ^       |  |
       | |      | | '-------'  |
       | |      | '-> failed   |
       | |      v              |
       | '-> landed <----------'
       '-> failed
    """

    INTENDED = "intended", "Intended: written down; as far as can be told, nothing has been sent"
    SENT = "sent", "Sent: a request is under way, or was taken and its transaction does not show yet"
    UNKNOWN = "unknown", "Unknown: a request went out and nothing tells whether it took effect; it is looked for"
    LANDED = "landed", "Landed: the asset's history or the chain shows it"
    FAILED = "failed", "Failed: refused for good"


MOVES: dict[NumbersState, frozenset[NumbersState]] = {
    NumbersState.INTENDED: frozenset({NumbersState.SENT, NumbersState.LANDED, NumbersState.FAILED}),
    NumbersState.SENT: frozenset(
        {NumbersState.INTENDED, NumbersState.UNKNOWN, NumbersState.LANDED, NumbersState.FAILED}
    ),
    NumbersState.UNKNOWN: frozenset({NumbersState.INTENDED, NumbersState.SENT, NumbersState.LANDED}),
    NumbersState.LANDED: frozenset(),
    NumbersState.FAILED: frozenset(),
}
UNFINISHED = (NumbersState.INTENDED, NumbersState.SENT, NumbersState.UNKNOWN)


class NumbersOrder(models.Model):
    """One intent to tell Numbers Protocol something: done once there, found again by the digest of what it says."""

    class Network(models.TextChoices):
        MAINNET = "mainnet"
        TESTNET = "testnet"

    class Purpose(models.TextChoices):
        REGISTER = "register"
        COMMIT = "commit"

    class Door(models.TextChoices):
        ASSETS = "assets", "the Capture API's assets"
        COMMITS = "commits", "the Capture API's commits"
        CHAIN = "chain", "our own transaction"

    class Verdict(models.TextChoices):
        UNKNOWN = "unknown"
        HOLDS = "holds"
        BROKEN = "broken"

    id = models.BigAutoField(primary_key=True)
    network = models.CharField(max_length=8, choices=Network.choices)
    purpose = models.CharField(max_length=8, choices=Purpose.choices)
    door = models.CharField(max_length=8, choices=Door.choices)
    tenant = models.ForeignKey("receipts.Tenant", null=True, blank=True, on_delete=models.PROTECT)
    subject = models.CharField(max_length=80, help_text="the job")
    receipt = models.ForeignKey("receipts.Receipt", on_delete=models.PROTECT)
    asset = models.CharField(max_length=59, help_text="the NID of the asset that stands for the job there")
    statement = models.TextField(help_text="the exact text that the author signed")
    digest = models.CharField(max_length=64, help_text="SHA-256 of the statement: by this it is found again")
    author = models.CharField(max_length=42)
    file = models.BinaryField(help_text="what is registered; the asset tree where we send it ourselves")
    payload = models.TextField(help_text="the request's fields or body, or commitData: made once, sent as they are")
    state = models.CharField(max_length=8, choices=NumbersState.choices, default=NumbersState.INTENDED)
    reason = models.CharField(max_length=300, blank=True, help_text="why it failed or waits")
    tries = models.IntegerField(default=0, help_text="looks and sends since its last progress: how long it backs off")
    due_at = models.DateTimeField(help_text="when it is looked at again")
    intended_at = models.DateTimeField(auto_now_add=True)
    sent_at = models.DateTimeField(null=True, blank=True, help_text="when the newest request went out")
    accepted_at = models.DateTimeField(null=True, blank=True, help_text="when the service was known to have taken it")
    landed_at = models.DateTimeField(null=True, blank=True)
    workflow_id = models.CharField(max_length=64, blank=True, help_text="work behind a registration; no transaction")
    service_order = models.CharField(max_length=200, blank=True, help_text="the service's own order_id")
    asset_tree_cid = models.CharField(max_length=100, blank=True)
    tx_hash = models.CharField(max_length=66, blank=True)
    transaction = models.OneToOneField(
        "receipts.ChainTransaction", null=True, blank=True, on_delete=models.PROTECT, related_name="numbers_order"
    )
    verdict = models.CharField(max_length=7, choices=Verdict.choices, default=Verdict.UNKNOWN)
    verdict_detail = models.CharField(max_length=300, blank=True)
    checked_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(fields=["network", "receipt"], name="one_order_a_receipt"),
            models.UniqueConstraint(fields=["digest"], name="one_order_a_statement"),
            models.UniqueConstraint(
                fields=["network", "subject"], condition=Q(purpose="register"), name="one_asset_a_job"
            ),
        ]
        indexes = [
            models.Index(
                fields=["due_at"],
                condition=Q(state__in=["intended", "sent", "unknown"]) | Q(state="landed", verdict="unknown"),
                name="numbers_due",
            ),
            models.Index(fields=["asset", "id"], name="numbers_by_asset"),
            models.Index(fields=["subject"], name="numbers_by_subject"),
            models.Index(fields=["tx_hash"], name="numbers_by_transaction"),
        ]

    def __str__(self) -> str:
        return f"{self.purpose} on {self.asset}"


class NumbersAttempt(models.Model):
    """One request of an order, written before it goes out. Without an outcome, its sender died before the answer."""

    class Act(models.TextChoices):
        LOOK = "look"
        SEND = "send"
        CHECK = "check"

    id = models.BigAutoField(primary_key=True)
    order = models.ForeignKey(NumbersOrder, on_delete=models.PROTECT, related_name="attempts")
    act = models.CharField(max_length=5, choices=Act.choices)
    begun_at = models.DateTimeField(auto_now_add=True)
    ended_at = models.DateTimeField(null=True, blank=True)
    outcome = models.CharField(max_length=300, blank=True)

    class Meta:
        ordering = ["id"]
        indexes = [models.Index(fields=["begun_at"], condition=Q(act="send"), name="numbers_sends")]

    def __str__(self) -> str:
        return f"{self.act} of order {self.order_id}"


class NumbersPlace(models.Model):
    """How far the log has been read for a network. It begins where the log stood when the network was turned on."""

    network = models.CharField(primary_key=True, max_length=8, choices=NumbersOrder.Network.choices)
    next_leaf = models.BigIntegerField()
    waiting_reason = models.CharField(max_length=300, blank=True, help_text="why the queue waits, if it does")
    turned_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return f"{self.network} from leaf {self.next_leaf}"
