"""Say how a provider fares right now, from the leases that it holds: a heartbeat is the only sign of life."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

from django.conf import settings
from django.utils import timezone

from jobs.models import Attempt, Provider
from jobs.states import AttemptState


@dataclass(frozen=True, slots=True)
class Liveness:
    """One word for a provider's state, the state word whose colour it takes, and what it is about."""

    word: str
    tone: str
    detail: str


def liveness_of(providers: Sequence[Provider]) -> dict[int, Liveness]:
    """Judge several providers in one query over open leases."""
    held: dict[int, list[Attempt]] = {provider.pk: [] for provider in providers}
    open_leases = Attempt.objects.filter(
        provider__in=held, state__in=[AttemptState.LEASED, AttemptState.RUNNING]
    ).order_by("id")
    for attempt in open_leases:
        held[attempt.provider_id].append(attempt)
    now = timezone.now()
    return {provider.pk: _judge(provider, held[provider.pk], now) for provider in providers}


def _judge(provider: Provider, held: Sequence[Attempt], now: dt.datetime) -> Liveness:
    patience = dt.timedelta(seconds=settings.LEASE_SECONDS)
    silent = [a for a in held if now - (a.heartbeat_at or a.leased_at) > patience]
    if silent:
        return Liveness("silent", "lost", f"{len(silent)} of {len(held)} leases without a sign of life")
    running = sum(attempt.state == AttemptState.RUNNING for attempt in held)
    if running:
        return Liveness("working", "running", f"{running} of {provider.capacity} at once")
    if not provider.active:
        return Liveness("paused", "cancelled", "is offered no work")
    if held:
        return Liveness("starting", "leased", f"{len(held)} leased, not started")
    return Liveness("ready", "completed", "no work leased")
