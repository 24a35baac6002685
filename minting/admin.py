"""Usage claims and their mints in the console; and what a mint's calldata says. Read-only."""

from typing import Any

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils.safestring import SafeString

from minting.calldata import decode_mint
from minting.eip712 import MintAuthorization
from minting.models import MintState, Usage
from minting.usage import UsageInvalid, parse_usage
from minting.usage import receipt_hash as hash_of
from receipts.admin import ChainTransactionAdmin, call_of
from receipts.chain.abi import NotCalldata
from receipts.console import HASH32, EvidenceAdmin
from receipts.models import ChainTransaction
from receipts.pages import usage_page
from receipts.templatetags.console import badge, copyable, moment, tokens

admin.site.unregister(ChainTransaction)


@admin.register(ChainTransaction)
class WithMints(ChainTransactionAdmin):
    """Transactions as the ledger shows them, and the mints among them read in full."""

    def page_context(self, request: HttpRequest, row: ChainTransaction) -> dict[str, Any]:
        usage = Usage.objects.filter(transaction=row).only("id").first()
        return super().page_context(request, row) | {
            "usage": usage,
            "usage_page": usage_page(usage.pk) if usage else "",
        }

    def call_of(self, row: ChainTransaction) -> dict[str, Any]:
        if row.purpose != ChainTransaction.Purpose.MINT:
            return call_of(row)
        try:
            granted, signatures = decode_mint(bytes(row.data))
        except NotCalldata as error:
            return {"name": "mintWithReceipt", "broken": str(error), "arguments": []}
        if isinstance(granted, MintAuthorization):
            told = [("provider", granted.provider), ("units", f"{granted.units:,} of the smallest unit")]
        else:
            told = [
                ("provider", f"{who}: {units:,} of the smallest unit")
                for who, units in zip(granted.providers, granted.units, strict=True)
            ]
        return {
            "name": "mintWithReceipt(…)" if isinstance(granted, MintAuthorization) else "mintSplit(…)",
            "arguments": [
                *told,
                ("receiptHash", granted.receipt_hash),
                ("deadline", f"{granted.deadline} (Unix seconds)"),
                *(("attester", who) for who, _ in signatures),
            ],
        }


class ByQuestion(admin.SimpleListFilter):
    """Questions about usage claims."""

    title = "question"
    parameter_name = "q_usage"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("unminted", "Attested but not minted"), ("refused", "Refused")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Usage]) -> QuerySet[Usage]:
        if self.value() == "unminted":
            return queryset.filter(state__in=[MintState.ATTESTED, MintState.SENT])
        if self.value() == "refused":
            return queryset.filter(state=MintState.REFUSED)
        return queryset


@admin.register(Usage)
class UsageAdmin(EvidenceAdmin):
    """Usage claims: who says to have served how much, and the mint that each led to, once."""

    keyset = ("id",)
    page_template = "console/usage.html"
    list_display = ("hash", "about", "standing", "served", "worth", "accepted", "created")
    list_display_links = None
    list_filter = (ByQuestion, ("state", admin.ChoicesFieldListFilter))
    search_fields = ("receipt_hash",)
    search_help_text = "A whole receipt hash, job id or payout address"

    def find(self, rows: QuerySet[Usage], term: str) -> QuerySet[Usage]:
        return rows.filter(receipt_hash=term) if HASH32.fullmatch(term) else rows.filter(Q(subject=term))

    def get_queryset(self, request: HttpRequest) -> QuerySet[Usage]:
        return (
            super()
            .get_queryset(request)
            .select_related("transaction", "usage_receipt", "attested_receipt", "minted_receipt")
        )

    @admin.display(description="Receipt hash")
    def hash(self, row: Usage) -> SafeString:
        return copyable(row.receipt_hash, usage_page(row.pk), what="receipt hash")

    @admin.display(description="Job")
    def about(self, row: Usage) -> SafeString:
        return copyable(row.subject)

    @admin.display(description="State")
    def standing(self, row: Usage) -> SafeString:
        return badge(row.state)

    @admin.display(description="Units")
    def served(self, row: Usage) -> str:
        return f"{row.units:,} {row.unit_type}"

    @admin.display(description="Amount")
    def worth(self, row: Usage) -> SafeString:
        return tokens(row.amount)

    @admin.display(description="Acceptance")
    def accepted(self, row: Usage) -> str:
        return row.acceptance

    @admin.display(description="Claimed")
    def created(self, row: Usage) -> SafeString:
        return moment(row.created_at)

    def page_context(self, request: HttpRequest, row: Usage) -> dict[str, Any]:
        found = hash_of(row.text)
        try:
            parse_usage(row.text)
            fault = ""
        except UsageInvalid as error:
            fault = str(error)
        if found != row.receipt_hash:
            fault = f"its text hashes to {found}"
        attested = row.attestation or {}
        return {
            "title": "Usage claim",
            "verdict_of_text": "broken" if fault else "holds",
            "fault": fault,
            "signers": [one["key_id"] for one in attested.get("signatures", [])],
            "deadline": attested.get("deadline"),
            "stages": _stages(row),
        }


def _stages(row: Usage) -> list[dict[str, Any]]:
    """Lay out the mint's state machine as steps."""
    order = [MintState.WANTED, MintState.ATTESTED, MintState.SENT, MintState.MINTED]
    here = order.index(MintState(row.state)) if row.state in order else -1
    times = (
        row.usage_receipt.occurred_at,
        row.attested_receipt.occurred_at if row.attested_receipt else None,
        row.transaction.sent_at if row.transaction else None,
        row.minted_receipt.occurred_at if row.minted_receipt else None,
    )
    steps: list[dict[str, Any]] = [
        {
            "name": state.value,
            "says": state.label.partition(": ")[2],
            "at": at,
            "done": index <= here,
            "here": index == here,
        }
        for index, (state, at) in enumerate(zip(order, times, strict=True))
    ]
    if here >= 0:
        return steps
    refused = MintState.REFUSED
    reached = [step | {"done": True} for step in steps if step["at"]]
    return [
        *reached,
        {"name": refused.value, "says": refused.label.partition(": ")[2], "done": True, "here": True, "bad": True},
    ]
