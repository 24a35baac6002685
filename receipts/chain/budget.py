"""Bound the gas that one tenant's commits take in a day: COMMIT_GAS_DAILY, by UTC days.

What is under way counts with its limit, what was mined with what it used. Above the bound commits wait, as the intents
that they are, for the next day. Anchors and mints are the house's own, and know no budget.
"""

import datetime as dt
from dataclasses import dataclass, field
from typing import Final

from django.conf import settings
from django.db.models import QuerySet, Sum
from django.db.models.functions import Coalesce
from django.utils import timezone

from receipts.models import ChainTransaction

LEAST_GAS: Final = 25_000  # no commit takes less: who has less left has nothing left
_NOTED_AT_ONCE: Final = 500


@dataclass(slots=True)
class Budget:
    """What each tenant's commits took on one day, and which tenants have to wait. `bound` 0: nobody has."""

    bound: int
    day: dt.date
    spent: dict[str, int]
    over: set[str] = field(default_factory=set)

    @classmethod
    def of_today(cls, *, chain_id: int) -> "Budget":
        """Add up what was signed since midnight."""
        bound, day = settings.COMMIT_GAS_DAILY, timezone.now().date()
        spent = gas_of(day, chain_id=chain_id) if bound else {}
        return cls(bound, day, spent, {tenant for tenant, gas in spent.items() if gas + LEAST_GAS > bound})

    def allows(self, row: ChainTransaction) -> bool:
        """Count a commit that is about to be signed, unless it would pass its tenant's bound."""
        tenant = row.tenant_id
        if not self.bound or tenant is None:
            return True
        gas = self.spent.get(tenant, 0) + (row.gas_limit or 0)
        if tenant in self.over or gas > self.bound:
            self.over.add(tenant)
            return False
        self.spent[tenant] = gas
        return True

    @property
    def reason(self) -> str:
        """Why a commit waits, in words that stay the same all day."""
        return f"the day's {self.bound} gas are used up (COMMIT_GAS_DAILY), it goes on after {self.day} UTC"

    def note_waiting(self, queue: QuerySet[ChainTransaction]) -> bool:
        """Write the reason beside the intents that wait, some at a time; tell whether any waits."""
        if not self.over:
            return False
        waiting = queue.filter(purpose=ChainTransaction.Purpose.COMMIT, tenant_id__in=self.over)
        fresh = waiting.exclude(reason=self.reason).order_by("id").values("pk")[:_NOTED_AT_ONCE]
        return bool(ChainTransaction.objects.filter(pk__in=fresh).update(reason=self.reason)) or waiting.exists()


def gas_of(day: dt.date, *, chain_id: int) -> dict[str, int]:
    """Add up the gas of each tenant's commits that were signed on a day: used where mined, else the limit."""
    begins = dt.datetime.combine(day, dt.time(), dt.UTC)
    rows = (
        ChainTransaction.objects.filter(
            chain_id=chain_id,
            purpose=ChainTransaction.Purpose.COMMIT,
            tenant__isnull=False,
            sent_at__gte=begins,
            sent_at__lt=begins + dt.timedelta(days=1),
        )
        .values("tenant_id")
        .annotate(gas=Sum(Coalesce("gas_used", "gas_limit")))
        .order_by()
    )
    return {str(row["tenant_id"]): int(row["gas"] or 0) for row in rows}
