"""What an operator wants to know at nine in the morning: a constant number of queries, none over a whole table."""

import datetime as dt
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.db.models import Count, Min, Q, QuerySet
from django.db.models.functions import TruncHour
from django.http import HttpRequest
from django.utils import timezone

from jobs.market.liveness import liveness_of
from jobs.models import Attempt, Job, Provider
from jobs.states import AttemptState, JobState
from minting.models import MintState, Usage
from receipts.console import estimated_rows, tenant_of
from receipts.models import ChainTransaction, Checkpoint, Commit, LogHead, Pending, Receipt, SenderStatus

HOURS = 24


@dataclass(frozen=True, slots=True)
class Hour:
    """One column of the day's chart: jobs by how they stand now, and the column's parts in percent of the highest."""

    at: dt.datetime
    completed: int
    failed: int
    others: int
    highest: int

    @property
    def total(self) -> int:
        return self.completed + self.failed + self.others

    @property
    def parts(self) -> list[tuple[str, float]]:
        told = (("bad", self.failed), ("run", self.others), ("good", self.completed))
        return [(tone, 100 * count / self.highest) for tone, count in told if count]


def morning(request: HttpRequest) -> dict[str, Any]:
    """Collect the dashboard for the people of the house, or of one tenant."""
    tenant_id = tenant_of(request)
    now = timezone.now()
    jobs: QuerySet[Job] = Job.objects.all() if tenant_id is None else Job.objects.filter(tenant_id=tenant_id)
    return _work(jobs, now) | _evidence() | ({"whole_house": True} | _house(now) if tenant_id is None else {})


def _work(jobs: QuerySet[Job], now: dt.datetime) -> dict[str, Any]:
    """Unfinished jobs come from partial indexes, finished ones of the last day from the index on time."""
    since = now.replace(minute=0, second=0, microsecond=0) - dt.timedelta(hours=HOURS - 1)
    unfinished = jobs.filter(state__in=[JobState.SUBMITTED, JobState.SCHEDULED, JobState.RUNNING])
    states = dict(unfinished.values_list("state").annotate(count=Count("pk")).order_by())
    oldest = jobs.filter(state=JobState.SUBMITTED).aggregate(at=Min("created_at"))["at"]
    rows = (
        jobs.filter(created_at__gte=since)
        .annotate(hour=TruncHour("created_at"))
        .values("hour")
        .annotate(
            completed=Count("pk", filter=Q(state=JobState.COMPLETED)),
            failed=Count("pk", filter=Q(state__in=[JobState.FAILED, JobState.CANCELLED])),
            total=Count("pk"),
        )
        .order_by("hour")
    )
    found = {row["hour"]: row for row in rows}
    highest = max((row["total"] for row in found.values()), default=1)
    hours = []
    for n in range(HOURS):
        at = since + dt.timedelta(hours=n)
        row = found.get(at, {"completed": 0, "failed": 0, "total": 0})
        others = row["total"] - row["completed"] - row["failed"]
        hours.append(Hour(at, row["completed"], row["failed"], others, highest))
    return {
        "submitted": states.get(JobState.SUBMITTED, 0),
        "scheduled": states.get(JobState.SCHEDULED, 0),
        "running": states.get(JobState.RUNNING, 0),
        "oldest_waiting": oldest,
        "day_total": sum(hour.total for hour in hours),
        "day_completed": sum(hour.completed for hour in hours),
        "day_failed": sum(hour.failed for hour in hours),
        "hours": hours,
        "lacking": jobs.lacking_evidence().count(),  # type: ignore[attr-defined]
        "lacking_reason": jobs.lacking_evidence()  # type: ignore[attr-defined]
        .exclude(evidence_reason="")
        .order_by("evidence_due_at")
        .values_list("job_id", "evidence_reason")
        .first(),
        "newest": list(jobs.order_by("-created_at")[:6]),
    }


def _evidence() -> dict[str, Any]:
    checkpoint = Checkpoint.objects.order_by("-size").first()
    anchor = (
        Commit.objects.filter(checkpoint__isnull=False)
        .select_related("transaction", "checkpoint")
        .order_by("-id")
        .first()
    )
    oldest = Pending.objects.select_related("receipt").order_by("pk").first()
    return {
        "head": LogHead.objects.filter(pk=1).first(),
        "checkpoint": checkpoint,
        "anchor": anchor,
        "unanchored": checkpoint.size - (anchor.checkpoint.size if anchor and anchor.checkpoint else 0)
        if checkpoint
        else 0,
        "pending": Pending.objects.count(),
        "oldest_pending": oldest.receipt.occurred_at if oldest else None,
        "receipts": estimated_rows(Receipt),
        "has_chain": bool(settings.CHAIN_RPC_URL),
    }


def _house(now: dt.datetime) -> dict[str, Any]:
    providers = list(Provider.objects.order_by("-active", "slug")[:12])
    liveness = liveness_of(providers)
    waiting = ChainTransaction.objects.filter(state__in=["intended", "sent", "mined"])
    late = Attempt.objects.filter(state__in=[AttemptState.LEASED, AttemptState.RUNNING], lease_until__lt=now)
    return {
        "providers": [(provider, liveness[provider.pk]) for provider in providers],
        "senders": list(SenderStatus.objects.filter(chain_id=settings.CHAIN_ID).order_by("id")[:4]),
        "open_transactions": waiting.count(),
        "unminted": Usage.objects.filter(state__in=[MintState.WANTED, MintState.ATTESTED, MintState.SENT]).count(),
        "lost_leases": late.count(),
    }
