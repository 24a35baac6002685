"""Tell how the log stands, for health checks."""

from dataclasses import dataclass

from django.db import connection


@dataclass(frozen=True, slots=True)
class LogState:
    """How many leaves there are, how many the newest checkpoint covers, and how long the oldest receipt waits."""

    size: int
    checkpoint: int
    lag_s: float


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
