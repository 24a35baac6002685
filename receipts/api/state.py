"""Tell how the log stands, for health checks."""

from dataclasses import dataclass

from django.conf import settings
from django.db import connection

from receipts.cosigners import newest_final
from receipts.models import Checkpoint
from receipts.record import database_now


@dataclass(frozen=True, slots=True)
class LogState:
    """How many leaves there are, how many the newest checkpoint covers, and how long the oldest receipt waits."""

    size: int
    checkpoint: int
    lag_s: float


@dataclass(frozen=True, slots=True)
class WitnessState:
    """How many leaves a final checkpoint covers, and how long the oldest checkpoint beyond it waits for witnesses."""

    final: int
    lag_s: float


def witness_state() -> WitnessState | None:
    """Tell how far witnesses are behind; None where no quorum is asked for."""
    if not settings.WITNESS_QUORUM:
        return None
    final = newest_final()
    covered = final.size if final else 0
    first = Checkpoint.objects.filter(size__gt=covered).order_by("size").first()
    lag_s = (database_now() - first.signed_at).total_seconds() if first else 0.0
    return WitnessState(covered, max(0.0, round(lag_s, 1)))


def log_state() -> LogState | None:
    """Ask the database in one query; None before the log was founded."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT size, coalesce((SELECT max(size) FROM receipts_checkpoint), 0),"
            " coalesce((SELECT extract(epoch FROM clock_timestamp() - r.occurred_at) FROM receipts_pending p"
            "   JOIN receipts_receipt r ON r.id = p.receipt_id ORDER BY p.receipt_id LIMIT 1), 0)"
            " FROM receipts_loghead"
        )
        row = cursor.fetchone()
    return LogState(row[0], row[1], max(0.0, round(float(row[2]), 1))) if row else None
