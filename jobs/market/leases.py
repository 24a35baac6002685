"""Grant a job to a provider for a while, and take it back from who stays silent.

A lease is an attempt's row. Its id is the fencing number: whoever acts under an older one is refused.
"""

import datetime as dt
from dataclasses import dataclass

from django.conf import settings
from django.db.models import Count, Q

from jobs.market.auction import Ask, Award, Record, award, reputation_ppm
from jobs.models import Attempt, Job, Provider
from jobs.states import AttemptState
from receipts.models import PublicKey

HELD = (AttemptState.LEASED, AttemptState.RUNNING)


@dataclass(frozen=True, slots=True)
class Grant:
    """A lease as it was granted."""

    attempt: Attempt
    provider: Provider
    award: Award


def hold_auction(job: Job) -> tuple[Award, Provider] | None:
    """Ask every provider that serves this kind, has room and whose key has no end; give the winner, or None."""
    ended = PublicKey.objects.filter(role=PublicKey.Role.PROVIDER, until_leaf__isnull=False)
    open_ones = (
        Provider.objects.filter(active=True, kinds__contains=[job.kind])
        .exclude(key_id__in=ended.values("key_id"))  # what it signs from its last leaf on would be broken
        .annotate(held=Count("attempt", filter=Q(attempt__state__in=HELD)))
        .order_by("id")
    )
    providers = {provider.pk: provider for provider in open_ones if provider.held < provider.capacity}
    asks = [Ask(provider.pk, int(provider.price), reputation_of(provider)) for provider in providers.values()]
    won = award(asks, int(job.max_price) if job.max_price is not None else None)
    return (won, providers[won.ask.provider_id]) if won else None


def reputation_of(provider: Provider) -> int:
    """A provider's reputation in parts per million, from how it has fared."""
    return reputation_ppm(
        Record(provider.successes, provider.failures, provider.quality_ppm_total, provider.duration_ms_total)
    )


def grant(*, job: Job, provider: Provider, won: Award, now: dt.datetime) -> Grant:
    """Write the lease. Called inside the move to `scheduled`, with the job's row locked."""
    attempt = Attempt.objects.create(
        job=job,
        number=job.attempt + 1,
        provider=provider,
        price=provider.price,
        unit_type=provider.unit_type,
        leased_at=now,
        lease_until=now + dt.timedelta(seconds=settings.START_SECONDS),
    )
    return Grant(attempt, provider, won)
