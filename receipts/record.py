"""Turn a statement into a receipt: canonical bytes, a NID, a link in its subject's chain, a pending leaf.

Called inside the transaction of the move that the receipt tells of: both happen or neither does.
"""

import datetime as dt
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from django.conf import settings
from django.db import IntegrityError, connection
from psycopg.errors import UniqueViolation

from receipts.canonical import MAX_RECEIPT_BYTES, Nid, b64url, encode, nid, utc
from receipts.events import EVENTS, About, schema_of
from receipts.schema import Check, Misfit, compiled


class NotAReceipt(ValueError):
    """What is to be recorded breaks the event's schema: `where` and `rule` say how. The caller is wrong."""

    def __init__(self, event_type: str, where: str, rule: str) -> None:
        super().__init__(f"{event_type}: {where}: {rule}")
        self.where = where
        self.rule = rule


class AlreadyRecorded(Exception):
    """This move of this subject has its receipt already; the transaction must be rolled back."""


class NotLetIn(Exception):
    """What the row beside a receipt depends on does not hold: nothing was written."""


class NoSuchThread(LookupError):
    """A later receipt was to be linked to a subject that has no first one."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """A receipt as it was written: `body` is what was hashed."""

    nid: Nid
    seq: int
    occurred_at: dt.datetime
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """A row that is written by the receipt's own statement: both or neither, in one round trip.

    `row` maps columns to values as the database takes them. Nothing is written unless `condition` holds: SQL of our
    own, with the named parameters `given`.
    """

    table: str
    row: Mapping[str, Any]
    condition: str
    given: Mapping[str, Any]


def record(
    *,
    event_type: str,
    subject: str,
    tenant_id: str | None,
    actor: str,
    data: dict[str, Any],
    attempt: int = 0,
    n: int = 0,
    origin: str = "hosted",
    first: bool = False,
    occurred_at: dt.datetime | None = None,
    beside: Callable[[Nid], Beside] | None = None,
    commit_each: bool | None = None,
) -> Recorded:
    """Write one receipt and its pending leaf. Costs one query for a subject's `first`, two for later ones.

    A move is written by the caller in the transaction at hand; or as the row `beside` the receipt, whose NID it may
    carry, and which needs no transaction.

    `attempt` and `n` make the receipt unique within its subject and type. `occurred_at` is the
    database's clock unless given. Public and house events name neither tenant nor job.

    `commit_each`, said with a job's first receipt, counts for all of its receipts: each is to be committed on the
    chain by itself. Unless said, COMMIT_POLICY decides. The wish is a row of the same statement (receipts.commits).

    Raises: NotAReceipt, AlreadyRecorded, NotLetIn, NoSuchThread.
    """
    assert connection.in_atomic_block or (first and beside), "a receipt is written in the transaction of its move"
    event = EVENTS[event_type]
    seq, prev, first_nid = 1, None, None
    each = settings.COMMIT_POLICY == "each" if commit_each is None else commit_each
    if not first:
        seq, prev, first_nid, now, each = _lock_thread(subject, tenant_id, event.about)
        occurred_at = occurred_at or now
    if occurred_at is None:
        occurred_at = database_now()
    moment = utc(occurred_at)
    body = _envelope(event_type, subject, tenant_id, actor, data, attempt, n, origin, seq, moment)
    if event.about is About.JOB and first_nid:
        body["nid"] = first_nid
    if prev:
        body["prev"] = prev
    raw = _checked(event_type, body)
    name = nid(raw)
    _insert(
        beside(name) if beside else None,
        commit_each=each and event.about is About.JOB,
        nid=name,
        tenant_id=tenant_id,
        subject=subject,
        event_type=event_type,
        attempt=attempt,
        n=n,
        seq=seq,
        origin=origin if event.about is About.JOB else "",
        occurred_at=occurred_at,
        body=raw,
    )
    return Recorded(name, seq, occurred_at, raw)


@dataclass(frozen=True, slots=True, kw_only=True)
class First:
    """A subject's first receipt, to be written with others: the words of `record`."""

    event_type: str
    subject: str
    tenant_id: str | None
    actor: str
    data: dict[str, Any]
    attempt: int = 0
    n: int = 0
    origin: str = "hosted"
    occurred_at: dt.datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRow:
    """A receipt's row before the database numbers it. `first_nid` is absent in its subject's first one."""

    nid: str
    tenant_id: str | None
    subject: str
    event_type: str
    attempt: int
    n: int
    seq: int
    origin: str
    occurred_at: dt.datetime
    body: bytes
    first_nid: str | None = None


def record_many(firsts: Sequence[First]) -> list[Recorded]:
    """Write the first receipts of many subjects: what `record(…, first=True)` writes one by one, in four statements.

    The checks are the same. One that is refused refuses all: the caller's transaction must be rolled back.

    Raises: NotAReceipt, AlreadyRecorded.
    """
    assert connection.in_atomic_block, "receipts are written in the transaction of their moves"
    if not firsts:
        return []
    now = database_now()
    rows = [_first_row(one, one.occurred_at or now) for one in firsts]
    try:
        copy_rows(rows, commit_each=settings.COMMIT_POLICY == "each")
    except IntegrityError as error:
        if not isinstance(error.__cause__, UniqueViolation):
            raise
        raise AlreadyRecorded(f"one of {len(rows)} subjects has its first receipt already") from error
    return [Recorded(Nid(row.nid), row.seq, row.occurred_at, row.body) for row in rows]


def copy_rows(rows: Sequence[NewRow], *, pending: bool = True, commit_each: bool = False) -> None:
    """Write receipts and their threads by COPY, each to become a leaf (`pending`) and a job's a commit (`commit_each`).

    Rows of one subject come in the order of their seq.
    """
    with connection.cursor() as cursor, connection.wrap_database_errors:
        with cursor.copy(f"COPY receipts_receipt ({', '.join(_COLUMNS)}) FROM STDIN (FORMAT BINARY)") as copy:
            copy.set_types(list(_COLUMNS.values()))
            for row in rows:
                copy.write_row([getattr(row, name) for name in _COLUMNS])
        ends = {row.subject: row for row in rows}
        firsts = {row.subject: row.first_nid or row.nid for row in reversed(rows)}
        cursor.execute(
            "INSERT INTO receipts_thread (subject, tenant_id, first_nid, head_nid, seq, commit_each)"
            " SELECT * FROM unnest(%s::text[], %s::text[], %s::text[], %s::text[], %s::int[], %s::bool[])"
            " ON CONFLICT (subject) DO UPDATE SET head_nid = excluded.head_nid, seq = excluded.seq",
            [
                list(ends),
                [row.tenant_id for row in ends.values()],
                [firsts[subject] for subject in ends],
                [row.nid for row in ends.values()],
                [row.seq for row in ends.values()],
                [commit_each and EVENTS[row.event_type].about is About.JOB for row in ends.values()],
            ],
        )
        names = [row.nid for row in rows]
        if pending:
            cursor.execute(_BESIDE["receipts_pending"], [names])
        if commit_each:
            jobs = [row.nid for row in rows if EVENTS[row.event_type].about is About.JOB]
            cursor.execute(_BESIDE["receipts_uncommitted"], [jobs])


_COLUMNS: Final = {
    "nid": "varchar",
    "tenant_id": "varchar",
    "subject": "varchar",
    "event_type": "varchar",
    "attempt": "int4",
    "n": "int4",
    "seq": "int4",
    "origin": "varchar",
    "occurred_at": "timestamptz",
    "body": "bytea",
}
_BESIDE: Final = {
    table: f"INSERT INTO {table} (receipt_id) SELECT id FROM receipts_receipt WHERE nid = ANY(%s) ORDER BY id"  # noqa: S608  our names
    for table in ("receipts_pending", "receipts_uncommitted")
}


def _first_row(one: First, occurred_at: dt.datetime) -> NewRow:
    moment = utc(occurred_at)
    body = _envelope(
        *(one.event_type, one.subject, one.tenant_id, one.actor, one.data, one.attempt, one.n, one.origin), 1, moment
    )
    raw = _checked(one.event_type, body)
    return NewRow(
        nid=nid(raw),
        tenant_id=one.tenant_id,
        subject=one.subject,
        event_type=one.event_type,
        attempt=one.attempt,
        n=one.n,
        seq=1,
        origin=one.origin if EVENTS[one.event_type].about is About.JOB else "",
        occurred_at=occurred_at,
        body=raw,
    )


def _envelope(
    event_type: str,
    subject: str,
    tenant_id: str | None,
    actor: str,
    data: dict[str, Any],
    attempt: int,
    n: int,
    origin: str,
    seq: int,
    moment: str,
) -> dict[str, Any]:
    """Write what stands around a receipt's data, but for its links."""
    about = EVENTS[event_type].about
    body: dict[str, Any] = {
        "v": 1,
        "eventType": event_type,
        "seq": seq,
        "occurredAt": moment,
        "actor": actor,
        "idempotencyKey": idempotency_key(event_type, subject, attempt, n, about),
        "salt": b64url(secrets.token_bytes(16)),
        "data": data,
    }
    if about is About.JOB:
        return body | {"tenant": tenant_id, "jobId": subject, "attempt": attempt, "origin": origin}
    return body | {"subject": subject}


def idempotency_key(event_type: str, subject: str, attempt: int, n: int, about: About) -> str:
    """Name a move so that a repeat is recognised: `gpu-job-{jobId}-{eventType}`, with attempt and n where due."""
    key = f"gpu-job-{subject}-{event_type}" if about is About.JOB else f"{subject}-{event_type}"
    if n:
        return f"{key}-{max(attempt, 1)}-{n}"
    return f"{key}-{attempt}" if attempt > 1 else key


def database_now() -> dt.datetime:
    """Ask the database for the time: one clock for all processes."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        moment: dt.datetime = cursor.fetchone()[0]
    return moment


def _lock_thread(
    subject: str, tenant_id: str | None, about: About
) -> tuple[int, str | None, str | None, dt.datetime, bool]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT seq, head_nid, first_nid, clock_timestamp(), commit_each FROM receipts_thread"
            " WHERE subject = %s AND tenant_id IS NOT DISTINCT FROM %s FOR UPDATE",
            [subject, tenant_id],
        )
        row = cursor.fetchone()
    if row is None:
        if about is About.JOB:
            raise NoSuchThread(f"{subject} has no first receipt to link to")
        # House and public subjects begin by themselves; two at once meet at the unique link (subject, seq).
        return 1, None, None, database_now(), False
    return row[0] + 1, row[1], row[2], row[3], row[4]


@cache
def _check_of(event_type: str) -> Check:
    return compiled(schema_of(event_type))


def _checked(event_type: str, body: dict[str, Any]) -> bytes:
    try:
        _check_of(event_type)(body)
    except Misfit as misfit:
        raise NotAReceipt(event_type, misfit.where, misfit.rule[:200]) from None
    raw = encode(body)
    if len(raw) > MAX_RECEIPT_BYTES:
        raise NotAReceipt(event_type, "$", f"{len(raw)} bytes, a receipt has at most {MAX_RECEIPT_BYTES}")
    return raw


_INSERT = """
WITH {gate}kept AS (
  INSERT INTO receipts_receipt
    (nid, tenant_id, subject, event_type, attempt, n, seq, origin, occurred_at, body)
  SELECT %(nid)s, %(tenant_id)s, %(subject)s, %(event_type)s, %(attempt)s, %(n)s, %(seq)s, %(origin)s,
         %(occurred_at)s, %(body)s{open}
  RETURNING id
), linked AS (
  INSERT INTO receipts_thread (subject, tenant_id, first_nid, head_nid, seq, commit_each)
  SELECT %(subject)s, %(tenant_id)s, %(nid)s, %(nid)s, %(seq)s, %(commit_each)s{open}
  ON CONFLICT (subject) DO UPDATE SET head_nid = excluded.head_nid, seq = excluded.seq
){beside}{wish}
INSERT INTO receipts_pending (receipt_id) SELECT id FROM kept
"""
_WISH = {
    False: "",
    True: ", wished AS (INSERT INTO receipts_uncommitted (receipt_id) SELECT id FROM kept)",
}
_ALONE = {each: _INSERT.format(gate="", open="", beside="", wish=wish) for each, wish in _WISH.items()}


@cache
def _with_row(table: str, columns: tuple[str, ...], condition: str, each: bool) -> str:
    values = ", ".join(f"%(beside_{column})s" for column in columns)
    return _INSERT.format(
        gate=f"gate AS MATERIALIZED (SELECT WHERE {condition}), ",
        open=" FROM gate",
        beside=f", beside AS (INSERT INTO {table} ({', '.join(columns)}) SELECT {values} FROM gate)",  # noqa: S608  our names
        wish=_WISH[each],
    )


def _insert(beside: Beside | None, **row: Any) -> None:
    statement = _ALONE[row["commit_each"]]
    if beside:
        statement = _with_row(beside.table, tuple(beside.row), beside.condition, row["commit_each"])
        row |= {f"beside_{column}": value for column, value in beside.row.items()} | dict(beside.given)
    try:
        with connection.cursor() as cursor:
            cursor.execute(statement, row)
            if cursor.rowcount != 1:
                raise NotLetIn(row["subject"])
    except IntegrityError as error:
        if not isinstance(error.__cause__, UniqueViolation):
            raise  # a fault of the house, never to be answered as a repeat
        raise AlreadyRecorded(f"{row['subject']} has its {row['event_type']} already") from error
