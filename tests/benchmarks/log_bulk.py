"""The program of test_log_bulk: run in a process of its own, on a database of its own that waits for the disk.

Prints one JSON object: what each way of writing reached in each round, and what sequencing added to the WAL.
"""

# ruff: noqa: E402  Django stands before its models are imported

import json
import os
import secrets
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

import django

django.setup()

from django.conf import settings
from django.db import connection, transaction

from receipts import log
from receipts.keys import make_key_file
from receipts.models import Pending, Receipt, Tenant
from receipts.record import First, NewRow, copy_rows, record, record_many
from tests.receipts.examples import HUB, JOB
from tests.receipts.test_record import SUBMITTED

ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
ACTOR = f"hub:{HUB.key_id}"
BATCH, ROUNDS, WRITERS, SECONDS = 256, 9, 64, 1.0
COLUMNS = ("nid", "tenant_id", "subject", "event_type", "attempt", "n", "seq", "origin", "occurred_at", "body")
TYPES = ("varchar", "varchar", "varchar", "varchar", "int4", "int4", "int4", "varchar", "timestamptz", "bytea")
INSERT = f"INSERT INTO twin ({', '.join(COLUMNS)}) VALUES ({', '.join(['%s'] * len(COLUMNS))})"


def subject() -> str:
    return "job_" + "".join(secrets.choice(ALPHABET) for _ in range(len(JOB) - 4))


def firsts(count: int) -> list[First]:
    return [
        First(event_type="JobSubmitted", subject=subject(), tenant_id="ada", actor=ACTOR, data=SUBMITTED)
        for _ in range(count)
    ]


def timed(deed: Callable[[], object]) -> float:
    began = time.perf_counter()
    deed()
    return time.perf_counter() - began


def raw_copy(rows: list[NewRow]) -> None:
    """The honest limit: the same bytes into a table like ours, by COPY, and nothing else."""
    statement = f"COPY twin ({', '.join(COLUMNS)}) FROM STDIN (FORMAT BINARY)"
    with transaction.atomic(), connection.cursor() as cursor, cursor.copy(statement) as copy:
        copy.set_types(TYPES)
        for row in rows:
            copy.write_row([getattr(row, name) for name in COLUMNS])


def whole(wanted: list[First]) -> None:
    """Bytes made and checked, written, sequenced and acknowledged by one commit."""
    with transaction.atomic():
        record_many(wanted)
        assert log.sequence(len(wanted)) == len(wanted)


def written(rows: list[NewRow]) -> None:
    """The same without making the bytes: what the log adds to a COPY."""
    with transaction.atomic():
        copy_rows(rows)
        assert log.sequence(len(rows)) == len(rows)


def made(count: int) -> list[NewRow]:
    """Rows that were not written: recorded, read back, undone."""
    with transaction.atomic():
        record_many(firsts(count))
        kept = Receipt.objects.order_by("-id").values(*COLUMNS)[:count]
        rows = [NewRow(**row | {"body": bytes(row["body"])}) for row in kept]
        transaction.set_rollback(True)
    return rows


def bulk() -> dict[str, list[float]]:
    found: dict[str, list[float]] = {"whole": [], "written": [], "copy": []}
    for number in range(ROUNDS + 1):
        mine, wanted, theirs = made(BATCH), firsts(BATCH), made(BATCH)
        times = {
            "whole": timed(lambda wanted=wanted: whole(wanted)),  # type: ignore[misc]
            "written": timed(lambda mine=mine: written(mine)),  # type: ignore[misc]
            "copy": timed(lambda theirs=theirs: raw_copy(theirs)),  # type: ignore[misc]
        }
        if number:  # the first round only warms up
            for name, took in times.items():
                found[name].append(BATCH / took)
    return found


def single() -> dict[str, list[float]]:
    """64 writers, a transaction each: our receipt with its pending leaf beside a plain row; a sequencer runs along."""
    rows = {who: made(1)[0] for who in range(WRITERS)}

    def ours(_: int) -> None:
        with transaction.atomic():
            record(
                event_type="JobSubmitted", subject=subject(), tenant_id="ada", actor=ACTOR, data=SUBMITTED, first=True
            )

    def plain(who: int) -> None:
        values = [getattr(rows[who], name) for name in COLUMNS]
        values[0], values[2] = secrets.token_hex(29), subject()
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(INSERT, values)

    def rate(deed: Callable[[int], None], *, sequenced: bool) -> float:
        done, stop, go = [0] * WRITERS, threading.Event(), threading.Barrier(WRITERS + 1)

        def write(who: int) -> None:
            connection.ensure_connection()
            go.wait()
            while not stop.is_set():
                deed(who)
                done[who] += 1
            connection.close()

        def sequences() -> None:
            while not stop.is_set():
                if not log.sequence():
                    time.sleep(0.005)
            connection.close()

        threads = [threading.Thread(target=write, args=(who,)) for who in range(WRITERS)]
        for thread in threads:
            thread.start()
        go.wait()
        along = threading.Thread(target=sequences)
        if sequenced:
            along.start()
        stop.wait(SECONDS)
        stop.set()
        for thread in [*threads, *([along] if sequenced else [])]:
            thread.join()
        return sum(done) / SECONDS

    found: dict[str, list[float]] = {"ours": [], "plain": []}
    for _ in range(ROUNDS):
        found["ours"].append(rate(ours, sequenced=True))
        found["plain"].append(rate(plain, sequenced=False))
        while log.sequence():
            pass
    return found


def wal() -> dict[str, float]:
    """What sequencing 10,000 receipts adds, a thousand: fsyncs of the WAL and its bytes."""
    # The checkpoint comes before the writing: a saturated house's pages are in the WAL whole since they were written.
    with connection.cursor() as cursor:
        cursor.execute("CHECKPOINT")
    for _ in range(40):
        with transaction.atomic():
            record_many(firsts(250))
    before = counters()
    count = 0
    while (more := log.sequence()) > 0:
        count += more
    after = counters()
    assert count == 10_000 and not Pending.objects.exists()
    return {name: (after[name] - before[name]) / (count / 1000) for name in before}


def counters() -> dict[str, int]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_stat_force_next_flush()")
        cursor.execute(
            "SELECT (SELECT wal_bytes FROM pg_stat_wal),"
            " (SELECT coalesce(sum(fsyncs), 0) FROM pg_stat_io WHERE object = 'wal')"
        )
        bytes_, fsyncs = cursor.fetchone()
    return {"bytes": int(bytes_), "fsyncs": int(fsyncs)}


def main() -> dict[str, Any]:
    folder = Path(sys.argv[1])
    settings.KEYS_DIR, settings.TLOG_DIR = folder / "keys", folder / "tlog"
    make_key_file(settings.KEYS_DIR / "log.key", "ed25519")
    Tenant.objects.create(id="ada", name="Ada")
    log.found_log("benchmark.example/log")
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE twin (LIKE receipts_receipt INCLUDING ALL)")
    return {"wal": wal(), "bulk": bulk(), "single": single()}


if __name__ == "__main__":
    print(json.dumps(main()))
