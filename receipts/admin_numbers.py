"""Orders on Numbers Protocol in the console: what was to be said there, every attempt, why it waits. Read-only."""

from typing import Any, ClassVar

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString

from receipts.committers.nit import NETWORKS
from receipts.console import HASH32, NID, SHA256, EvidenceAdmin, EvidenceInline
from receipts.models import NumbersAttempt, NumbersOrder, NumbersPlace
from receipts.models.numbers import UNFINISHED
from receipts.pages import receipt_page
from receipts.templatetags.console import badge, copyable, moment, transaction_link, verdict


class ByQuestion(admin.SimpleListFilter):
    """Questions about orders."""

    title = "question"
    parameter_name = "q_numbers"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:  # noqa: ARG002
        """Name the questions."""
        return [
            ("open", "On their way"),
            ("unknown", "Sent, and nothing tells whether it took effect"),
            ("failed", "Refused for good"),
            ("broken", "Landed, and says something else"),
        ]

    def queryset(self, request: HttpRequest, queryset: QuerySet[NumbersOrder]) -> QuerySet[NumbersOrder]:  # noqa: ARG002
        """Choose the orders that answer one."""
        match self.value():
            case "open":
                return queryset.filter(state__in=UNFINISHED)
            case "unknown" | "failed" as state:
                return queryset.filter(state=state)
            case "broken":
                return queryset.filter(verdict=NumbersOrder.Verdict.BROKEN)
        return queryset


class AttemptInline(EvidenceInline):
    """Every request of an order, in its order; one without an outcome was cut short by a crash."""

    model = NumbersAttempt
    fields = ("act", "begun", "ended", "what_came")
    readonly_fields = fields

    @admin.display(description="Began")
    def begun(self, row: NumbersAttempt) -> SafeString:
        return moment(row.begun_at)

    @admin.display(description="Ended")
    def ended(self, row: NumbersAttempt) -> SafeString:
        return moment(row.ended_at)

    @admin.display(description="Outcome")
    def what_came(self, row: NumbersAttempt) -> str:
        return row.outcome or "no outcome: the process ended first"


@admin.register(NumbersOrder)
class NumbersOrderAdmin(EvidenceAdmin):
    """Assets and commits on Numbers Protocol, each with its attempts and what was read back."""

    keyset = ("id",)
    list_display = ("what", "on", "standing", "read_back", "in_transaction", "reason", "intended")
    list_display_links = ("what",)
    list_filter = (ByQuestion, ("network", admin.ChoicesFieldListFilter), ("purpose", admin.ChoicesFieldListFilter))
    search_fields = ("asset",)
    search_help_text = "A whole asset NID, transaction hash, job id or digest of a statement"
    inlines: ClassVar[Any] = [AttemptInline]
    fields = (
        "what",
        "network",
        "door",
        "standing",
        "reason",
        "due",
        "on",
        "of_receipt",
        "subject",
        "in_transaction",
        "asset_tree_cid",
        "read_back",
        "verdict_detail",
        "statement",
        "digest",
        "author",
        "intended",
        "sent",
        "landed",
        "workflow_id",
        "service_order",
        "payload",
    )
    readonly_fields = fields

    def find(self, rows: QuerySet[NumbersOrder], term: str) -> QuerySet[NumbersOrder]:
        """Find orders by a whole name of theirs."""
        if NID.fullmatch(term):
            return rows.filter(asset=term)
        if HASH32.fullmatch(term):
            return rows.filter(tx_hash=term)
        return rows.filter(digest=term) if SHA256.fullmatch(term) else rows.filter(subject=term)

    @admin.display(description="Order")
    def what(self, row: NumbersOrder) -> str:
        return f"{row.purpose} on {row.network}"

    @admin.display(description="Asset")
    def on(self, row: NumbersOrder) -> SafeString:
        page = NETWORKS[row.network].asset_page(row.asset)
        return format_html(
            '{} <a class="ts-out" href="{}" rel="noreferrer noopener" target="_blank">profile ↗</a>',
            copyable(row.asset, what="asset NID"),
            page,
        )

    @admin.display(description="Receipt")
    def of_receipt(self, row: NumbersOrder) -> SafeString:
        return copyable(row.receipt.nid, receipt_page(row.receipt_id), what="NID")

    @admin.display(description="State")
    def standing(self, row: NumbersOrder) -> SafeString:
        return badge(row.state)

    @admin.display(description="Read back")
    def read_back(self, row: NumbersOrder) -> SafeString:
        return verdict(row.verdict if row.state == "landed" else "not claimed")

    @admin.display(description="Transaction")
    def in_transaction(self, row: NumbersOrder) -> SafeString:
        if row.transaction_id is not None:
            return transaction_link(row.tx_hash, row.transaction_id)
        page = NETWORKS[row.network].transaction_page(row.tx_hash) if row.tx_hash else ""
        return copyable(row.tx_hash, page, what="transaction hash")

    @admin.display(description="Intended")
    def intended(self, row: NumbersOrder) -> SafeString:
        return moment(row.intended_at)

    @admin.display(description="Newest request")
    def sent(self, row: NumbersOrder) -> SafeString:
        return moment(row.sent_at)

    @admin.display(description="Landed")
    def landed(self, row: NumbersOrder) -> SafeString:
        return moment(row.landed_at)

    @admin.display(description="Looked at again")
    def due(self, row: NumbersOrder) -> SafeString:
        return moment(row.due_at)


@admin.register(NumbersPlace)
class NumbersPlaceAdmin(EvidenceAdmin):
    """How far the log has been read for each network, and why its queue waits."""

    keyset = ("network",)
    tenant_path: ClassVar[str | None] = None
    list_display = ("network", "next_leaf", "waiting_reason", "turned")
    fields = list_display
    readonly_fields = fields

    @admin.display(description="Newest turn")
    def turned(self, row: NumbersPlace) -> SafeString:
        return moment(row.turned_at)
