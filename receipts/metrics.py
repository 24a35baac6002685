"""Measure how the ledger and its sender fare, in the text that Prometheus reads.

A figure that can't be measured is absent, never 0.
Source: Prometheus exposition formats, "Text-based format", version 0.0.4.
"""

import datetime as dt
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from django.conf import settings
from django.db.models import Count, Min

from receipts.chain.budget import gas_of
from receipts.models import (
    ChainTransaction,
    Checkpoint,
    Commit,
    LogHead,
    Pending,
    SenderStatus,
    Uncommitted,
)
from receipts.models.transactions import TransactionState, Waiting
from receipts.record import database_now

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
STALE_SECONDS: Final = 120  # a sender that was not heard of for so long says nothing about now
_OPEN: Final = (TransactionState.INTENDED, TransactionState.SENT, TransactionState.MINED)
# With these a turn never got as far as the balance: what is kept is an older one.
_BLIND: Final = (Waiting.NO_KEY, Waiting.NODE, Waiting.WRONG_CHAIN)

Labels = dict[str, str]


@dataclass(frozen=True, slots=True)
class Figure:
    """One gauge and its samples, each with labels of its own."""

    name: str
    says: str
    samples: tuple[tuple[Labels, float], ...]


def exposition() -> str:
    """Write all figures, in a constant number of queries; none reads a whole table."""
    now = database_now()
    figures = [*_log(now), *_anchors(now), *_queue(now), *_senders(now), *_gas(now)]
    return "".join(_written(figure) for figure in figures if figure.samples)


def _log(now: dt.datetime) -> Iterator[Figure]:
    oldest = Pending.objects.select_related("receipt").only("receipt__occurred_at").order_by("pk").first()
    yield _one(
        "oldest_pending_receipt_age_seconds",
        "Age of the oldest receipt that has no leaf yet; 0 when all have one.",
        _age(now, oldest.receipt.occurred_at) if oldest else 0,
    )
    head = LogHead.objects.filter(pk=1).first()
    yield _one("log_size", "Leaves of the log.", head.size if head else None)
    checkpoint = Checkpoint.objects.order_by("-size").first()
    age = _age(now, checkpoint.signed_at) if checkpoint else None
    yield _one("checkpoint_age_seconds", "Age of the newest checkpoint.", age)
    yield _one("checkpoint_size", "Leaves under the newest checkpoint.", checkpoint.size if checkpoint else None)


def _anchors(now: dt.datetime) -> Iterator[Figure]:
    """Lag behind the newest *final* anchor: one that is only on its way anchors nothing yet."""
    if not settings.CHAIN_RPC_URL:
        return
    anchored = (
        Commit.objects.filter(checkpoint__isnull=False, transaction__state=TransactionState.FINAL)
        .order_by("-checkpoint_id")
        .values_list("checkpoint_id", flat=True)
        .first()
    ) or 0
    newest = Checkpoint.objects.order_by("-size").values_list("size", flat=True).first()
    if newest is None:
        return
    waiting = Checkpoint.objects.filter(size__gt=anchored).order_by("size").first()
    yield _one("anchor_lag_leaves", "Leaves under a checkpoint but under no final anchor.", max(0, newest - anchored))
    yield _one(
        "anchor_lag_seconds",
        "Age of the oldest checkpoint that no final anchor covers; 0 when all are covered.",
        _age(now, waiting.signed_at) if waiting else 0,
    )


def _queue(now: dt.datetime) -> Iterator[Figure]:
    rows = ChainTransaction.objects.filter(chain_id=settings.CHAIN_ID, state__in=_OPEN)
    counted = {
        (row["state"], row["purpose"]): row["count"]
        for row in rows.values("state", "purpose").annotate(count=Count("pk")).order_by()
    }
    states = tuple(
        ({"state": state.value}, float(sum(count for (at, _), count in counted.items() if at == state)))
        for state in _OPEN
    )
    yield Figure("open_transactions", "Transactions that are not final yet, by state.", states)
    intended = tuple(
        ({"purpose": purpose}, float(count))
        for (state, purpose), count in sorted(counted.items())
        if state == TransactionState.INTENDED
    )
    yield Figure("queue_length", "Intents that have no nonce yet, by purpose.", intended or (({}, 0.0),))
    yield _one("uncommitted_receipts", "Receipts whose commit is no intent yet.", Uncommitted.objects.count())
    oldest = rows.filter(state=TransactionState.INTENDED).aggregate(at=Min("intended_at"))["at"]
    yield _one(
        "oldest_intent_age_seconds", "Age of the oldest intent; 0 without one.", _age(now, oldest) if oldest else 0
    )
    stuck = rows.filter(state=TransactionState.SENT).order_by("nonce").values("sender", "sent_at")
    first: dict[str, dt.datetime | None] = {}
    for row in stuck[:1_000]:
        first.setdefault(row["sender"], row["sent_at"])
    yield Figure(
        "stuck_nonce_age_seconds",
        "Time since the lowest nonce that is not mined was signed, by sender; absent without one.",
        tuple(({"sender": sender}, _age(now, at)) for sender, at in sorted(first.items()) if at),
    )


def _senders(now: dt.datetime) -> Iterator[Figure]:
    known = list(SenderStatus.objects.filter(chain_id=settings.CHAIN_ID).order_by("sender"))
    yield Figure(
        "sender_checked_age_seconds",
        "Time since a sender last took a turn.",
        tuple(({"sender": row.sender}, _age(now, row.checked_at)) for row in known if row.checked_at),
    )
    fresh = [row for row in known if row.checked_at and _age(now, row.checked_at) < STALE_SECONDS]
    yield Figure(
        "sender_balance_wei",
        "Balance of a sender, as its last turn saw it.",
        tuple(
            ({"sender": row.sender}, int(row.balance_wei))
            for row in fresh
            if row.balance_wei is not None and row.waiting_for not in _BLIND
        ),
    )
    waiting = tuple(
        ({"sender": row.sender, "reason": reason.value}, float(row.waiting_for == reason))
        for row in fresh
        for reason in Waiting
    )
    yield Figure("sender_waiting", "1 for the reason that a sender's queue waits for, else 0.", waiting)


def _gas(now: dt.datetime) -> Iterator[Figure]:
    if not settings.CHAIN_RPC_URL:
        return
    spent = gas_of(now.astimezone(dt.UTC).date(), chain_id=settings.CHAIN_ID)
    yield Figure(
        "commit_gas_today",
        "Gas of a tenant's commits in this UTC day: used where mined, else the limit.",
        tuple(({"tenant": tenant}, float(gas)) for tenant, gas in sorted(spent.items())),
    )
    yield _one("commit_gas_daily_bound", "COMMIT_GAS_DAILY.", settings.COMMIT_GAS_DAILY or None)


def _one(name: str, says: str, value: float | None) -> Figure:
    return Figure(name, says, () if value is None else (({}, value),))


def _age(now: dt.datetime, at: dt.datetime) -> float:
    return max(0.0, (now - at).total_seconds())


def _written(figure: Figure) -> str:
    name = f"tallystick_{figure.name}"
    lines = [f"# HELP {name} {figure.says}", f"# TYPE {name} gauge"]
    lines += [f"{name}{_labels(labels.items())} {_number(value)}" for labels, value in figure.samples]
    return "\n".join(lines) + "\n"


def _labels(labels: Iterable[tuple[str, str]]) -> str:
    told = ",".join(f'{key}="{_escaped(value)}"' for key, value in labels)
    return f"{{{told}}}" if told else ""


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else f"{value:.3f}"
