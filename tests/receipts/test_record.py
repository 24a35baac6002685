"""Recording: what a statement must be, who it links to, that it is one transaction, and that nobody changes it."""

import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import DatabaseError, IntegrityError, connection, transaction
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from receipts.canonical import decode_canonical, nid, read_utc, unb64url
from receipts.events import EVENTS, About
from receipts.models import Bundle, Checkpoint, Pending, Receipt, Tenant, Thread
from receipts.record import AlreadyRecorded, NoSuchThread, NotAReceipt, Recorded, record
from tests.receipts.examples import HUB, examples

JOB = "job_01kax3m8q2v7n4w9s5t6r1z0y8"
SUBMITTED = decode_canonical(examples()["JobSubmitted"])["data"]
SCHEDULED = decode_canonical(examples()["JobScheduled"])["data"]
PROGRESS = decode_canonical(examples()["JobProgressUpdate"])["data"]
ACTOR = f"hub:{HUB.key_id}"


def write(
    event_type: str = "JobSubmitted", *, subject: str = JOB, tenant_id: str | None = "ada", **rest: Any
) -> Recorded:
    """Record in a transaction of its own."""
    given: dict[str, Any] = {
        "actor": ACTOR,
        "data": decode_canonical(examples()[event_type])["data"],
        "first": event_type == "JobSubmitted",
        "attempt": 0 if event_type == "JobSubmitted" else 1,
    }
    with transaction.atomic():
        return record(event_type=event_type, subject=subject, tenant_id=tenant_id, **{**given, **rest})


@contextmanager
def queries() -> Iterator[list[str]]:
    seen: list[str] = []

    def note(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        seen.append(sql)
        return execute(sql, params, many, context)

    with connection.execute_wrapper(note):
        yield seen


@pytest.fixture
def ada(db: None) -> Tenant:
    return Tenant.objects.create(id="ada", name="Ada")


# --- what is written ----------------------------------------------------------------------------------


def test_a_receipt_is_kept_as_the_bytes_that_were_hashed(ada: Tenant) -> None:
    written = write()
    kept = Receipt.objects.get(nid=written.nid)
    assert bytes(kept.body) == written.body
    assert kept.nid == written.nid == nid(written.body)
    body = decode_canonical(written.body)
    assert body["data"] == SUBMITTED
    assert (body["tenant"], body["jobId"], body["seq"], body["attempt"]) == ("ada", JOB, 1, 0)
    assert body["idempotencyKey"] == f"gpu-job-{JOB}-JobSubmitted"
    assert read_utc(body["occurredAt"]) <= timezone.now()
    assert (kept.event_type, kept.subject, kept.tenant_id, kept.seq) == ("JobSubmitted", JOB, "ada", 1)


@pytest.mark.parametrize("event_type", EVENTS)
def test_every_type_of_event_can_be_recorded(ada: Tenant, event_type: str) -> None:
    if EVENTS[event_type].about is About.JOB and event_type != "JobSubmitted":
        write()
    rest: dict[str, Any] = {}
    if EVENTS[event_type].about is not About.JOB:
        rest = {"subject": "house-affair", "tenant_id": None, "attempt": 0}
    written = write(event_type, **rest)
    assert decode_canonical(written.body)["eventType"] == event_type
    assert Pending.objects.filter(receipt__nid=written.nid).exists()


def test_every_receipt_has_a_salt_of_its_own(ada: Tenant) -> None:
    salts = {decode_canonical(write(subject=JOB[:-1] + end).body)["salt"] for end in "0123456789"}
    assert len(salts) == 10
    assert all(len(unb64url(salt)) == 16 for salt in salts)


def test_later_receipts_link_to_the_one_before_and_to_the_first(ada: Tenant) -> None:
    chain = [
        write(),
        write("JobScheduled"),
        write("JobStarted"),
        write("JobProgressUpdate", n=1),
        write("JobCompleted"),
    ]
    for seq, (before, after) in enumerate(itertools.pairwise(chain), start=2):
        body = decode_canonical(after.body)
        assert (body["seq"], body["prev"], body["nid"]) == (seq, before.nid, chain[0].nid)
    thread = Thread.objects.get(subject=JOB)
    assert (thread.seq, thread.first_nid, thread.head_nid) == (5, chain[0].nid, chain[-1].nid)


@pytest.mark.parametrize(
    ("attempt", "n", "ending"), [(0, 0, ""), (1, 0, ""), (2, 0, "-2"), (1, 3, "-1-3"), (2, 3, "-2-3"), (0, 3, "-1-3")]
)
def test_a_move_has_its_readable_key(ada: Tenant, attempt: int, n: int, ending: str) -> None:
    write()
    written = write("JobProgressUpdate", attempt=attempt, n=n)
    assert decode_canonical(written.body)["idempotencyKey"] == f"gpu-job-{JOB}-JobProgressUpdate{ending}"


def test_public_receipts_carry_neither_tenant_nor_job(ada: Tenant) -> None:
    body = decode_canonical(write("UsageAttested", subject="job-pseudonym", tenant_id=None, attempt=0).body)
    assert not {"tenant", "jobId", "nid", "attempt", "origin"} & body.keys()
    assert body["subject"] == "job-pseudonym"


def test_a_first_receipt_costs_one_query_and_a_later_one_two(ada: Tenant) -> None:
    with queries() as seen:
        write(occurred_at=timezone.now())
    assert next(sql for sql in seen if "SAVEPOINT" not in sql).lstrip().startswith("WITH kept AS")
    assert len([sql for sql in seen if "SAVEPOINT" not in sql]) == 1
    with queries() as seen:
        write("JobScheduled")
    assert len([sql for sql in seen if "SAVEPOINT" not in sql]) == 2


def test_the_time_is_the_databases_unless_told(ada: Tenant) -> None:
    told = timezone.now().replace(year=2031, microsecond=310_000)
    assert decode_canonical(write(occurred_at=told).body)["occurredAt"].startswith("2031-")
    later = decode_canonical(write("JobScheduled").body)["occurredAt"]
    assert abs((read_utc(later) - timezone.now()).total_seconds()) < 60


# --- what is refused -----------------------------------------------------------------------------------

BREAKS: dict[str, dict[str, Any]] = {
    "an extra field": {"data": {**SUBMITTED, "prompt": "a red circle"}},
    "a missing field": {"data": {key: value for key, value in SUBMITTED.items() if key != "kind"}},
    "a float": {"data": {**SUBMITTED, "priority": 0.5}},
    "a float that is whole": {"data": {**SUBMITTED, "priority": 1.0}},
    "free text as kind": {"data": {**SUBMITTED, "kind": "a red circle"}},
    "an input in clear": {"data": {**SUBMITTED, "inputs": {"prompt": "a red circle"}}},
    "an amount as integer": {"data": {**SUBMITTED, "max_price": 7}},
    "an amount with a leading zero": {"data": {**SUBMITTED, "max_price": "07"}},
    "an actor of no role": {"actor": "mallory:x"},
    "an origin of no word": {"origin": "dreamt"},
    "a tenant in capitals": {"tenant_id": "ADA"},
    "a job id of another form": {"subject": "job_1"},
    "a negative attempt": {"attempt": -1},
    "text that is not NFC": {"data": {**SUBMITTED, "claim": "e\u0301" * 2}},
    "more than 16 KiB": {"data": {**SUBMITTED, "inputs": {f"i{n}": "A" * 43 for n in range(32)}, "claim": "é" * 8_000}},
}


@pytest.mark.parametrize("broken", BREAKS.values(), ids=BREAKS.keys())
def test_what_breaks_the_schema_is_refused_and_leaves_nothing(ada: Tenant, broken: dict[str, Any]) -> None:
    with pytest.raises(ValueError) as refusal:
        write(**broken)
    assert type(refusal.value).__name__ in ("NotAReceipt", "NotCanonical")
    assert not Receipt.objects.exists()
    assert not Thread.objects.exists()
    assert not Pending.objects.exists()


def test_the_refusal_names_the_field(ada: Tenant) -> None:
    with pytest.raises(NotAReceipt) as refusal:
        write(data={**SUBMITTED, "max_price": "07"})
    assert refusal.value.where == "data.max_price"


def test_an_event_that_is_not_ours_is_refused(ada: Tenant) -> None:
    with pytest.raises(KeyError), transaction.atomic():
        record(event_type="JobExploded", subject=JOB, tenant_id="ada", actor=ACTOR, data={}, first=True)


def test_a_receipt_outside_of_a_transaction_is_refused(transactional_db: None) -> None:
    with pytest.raises(AssertionError, match="transaction of its move"):
        record(event_type="JobSubmitted", subject=JOB, tenant_id="ada", actor=ACTOR, data=SUBMITTED, first=True)


def test_the_same_move_twice_is_refused(ada: Tenant) -> None:
    write()
    with pytest.raises(AlreadyRecorded):
        write()
    write("JobScheduled")
    with pytest.raises(AlreadyRecorded):
        write("JobScheduled")
    assert Receipt.objects.count() == 2


def test_the_same_type_again_needs_another_attempt_or_number(ada: Tenant) -> None:
    write()
    for attempt, n in [(1, 1), (1, 2), (2, 1)]:
        write("JobProgressUpdate", attempt=attempt, n=n)
        with pytest.raises(AlreadyRecorded):
            write("JobProgressUpdate", attempt=attempt, n=n)
    assert Receipt.objects.count() == 4


def test_a_later_receipt_of_an_unknown_job_is_refused(ada: Tenant) -> None:
    with pytest.raises(NoSuchThread):
        write("JobScheduled")


def test_one_tenant_can_not_write_into_the_chain_of_another(ada: Tenant) -> None:
    Tenant.objects.create(id="mallory", name="Mallory")
    first = write()
    with pytest.raises(NoSuchThread):
        write("JobScheduled", tenant_id="mallory")
    with pytest.raises(AlreadyRecorded):
        write(tenant_id="mallory")
    assert Thread.objects.get(subject=JOB).head_nid == first.nid


def test_a_house_affair_can_not_be_written_under_a_tenants_subject(ada: Tenant) -> None:
    write()
    with pytest.raises(AlreadyRecorded):
        write("ReceiptErased", subject=JOB.replace("_", "-"), tenant_id=None)
        write("ReceiptErased", subject=JOB.replace("_", "-"), tenant_id=None)
    assert Thread.objects.get(subject=JOB).seq == 1


def test_another_broken_rule_of_the_database_is_not_called_a_repeat(ada: Tenant) -> None:
    """Only a repeated move may be answered as a repeat; anything else is a fault and must look like one."""
    with pytest.raises(IntegrityError), transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE receipts_receipt ADD CONSTRAINT never CHECK (origin <> 'hosted')")
        record(event_type="JobSubmitted", subject=JOB, tenant_id="ada", actor=ACTOR, data=SUBMITTED, first=True)


@given(st.lists(st.sampled_from(["JobScheduled", "JobStarted", "JobRequeued"]), max_size=8))
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_sequence_of_moves_makes_one_unbroken_chain(ada: Tenant, moves: list[str]) -> None:
    with transaction.atomic():
        write()
        for attempt, event_type in enumerate(moves, start=1):
            write(event_type, attempt=attempt)
        rows = list(Receipt.objects.filter(subject=JOB).order_by("seq"))
        assert [row.seq for row in rows] == list(range(1, len(moves) + 2))
        for before, after in itertools.pairwise(rows):
            assert decode_canonical(bytes(after.body))["prev"] == before.nid
        transaction.set_rollback(True)


# --- one transaction ------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_a_move_that_fails_leaves_no_receipt() -> None:
    Tenant.objects.create(id="ada", name="Ada")

    class MoveFailed(Exception):
        pass

    with pytest.raises(MoveFailed), transaction.atomic():
        record(event_type="JobSubmitted", subject=JOB, tenant_id="ada", actor=ACTOR, data=SUBMITTED, first=True)
        assert Receipt.objects.count() == Thread.objects.count() == Pending.objects.count() == 1
        raise MoveFailed
    assert Receipt.objects.count() == Thread.objects.count() == Pending.objects.count() == 0


def at_once(*deeds: Callable[[], object]) -> list[object]:
    """Run deeds in threads, each with a connection of its own; give what each returned or raised."""
    ready = threading.Barrier(len(deeds))
    outcomes: list[object] = [None] * len(deeds)

    def run(at: int, deed: Callable[[], object]) -> None:
        ready.wait()
        try:
            outcomes[at] = deed()
        except Exception as error:
            outcomes[at] = error
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=(at, deed)) for at, deed in enumerate(deeds)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes


@pytest.mark.django_db(transaction=True)
def test_of_eight_submissions_at_once_one_is_written() -> None:
    Tenant.objects.create(id="ada", name="Ada")
    outcomes = at_once(*[write] * 8)
    assert sum(isinstance(outcome, Recorded) for outcome in outcomes) == 1
    assert sum(isinstance(outcome, AlreadyRecorded) for outcome in outcomes) == 7
    assert Receipt.objects.count() == Pending.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_receipts_of_one_job_written_at_once_make_one_chain() -> None:
    Tenant.objects.create(id="ada", name="Ada")
    write()
    outcomes = at_once(*[lambda n=n: write("JobProgressUpdate", n=n) for n in range(1, 9)])
    assert all(isinstance(outcome, Recorded) for outcome in outcomes), outcomes
    rows = list(Receipt.objects.order_by("seq"))
    assert [row.seq for row in rows] == list(range(1, 10))
    for before, after in itertools.pairwise(rows):
        assert decode_canonical(bytes(after.body))["prev"] == before.nid


@pytest.mark.django_db(transaction=True)
def test_jobs_do_not_wait_for_each_other() -> None:
    Tenant.objects.create(id="ada", name="Ada")
    first, second = JOB, JOB[:-1] + "0"
    for job in (first, second):
        write(subject=job)
    with transaction.atomic():
        record(event_type="JobScheduled", subject=first, tenant_id="ada", actor=ACTOR, data=SCHEDULED, attempt=1)
        # While the first job's thread is locked here, another connection writes the second's.
        (outcome,) = at_once(lambda: write("JobScheduled", subject=second))
        assert isinstance(outcome, Recorded)


@pytest.mark.django_db(transaction=True)
def test_of_the_same_house_affair_begun_twice_at_once_one_is_written() -> None:
    outcomes = at_once(*[lambda: write("Census", subject="census", tenant_id=None, attempt=0)] * 4)
    assert sum(isinstance(outcome, Recorded) for outcome in outcomes) == 1
    assert Receipt.objects.count() == 1


# --- never changed -------------------------------------------------------------------------------------


@pytest.fixture
def evidence(ada: Tenant) -> Receipt:
    """One row in every table that only ever grows."""
    kept = Receipt.objects.get(nid=write().nid)
    Bundle.objects.create(
        first_leaf=0,
        count=1,
        receipt_ids=[kept.pk],
        lowest_receipt=kept.pk,
        highest_receipt=kept.pk,
        entries=b"",
        sequenced_at=timezone.now(),
    )
    Checkpoint.objects.create(size=1, root=bytes(32), note="note", signed_at=timezone.now())
    connection.check_constraints()  # deferred checks run now, so that only the guards are left to object
    return kept


CHANGES = {
    "receipts_receipt": [
        "UPDATE receipts_receipt SET body = '\\x7b7d'",
        "UPDATE receipts_receipt SET body = ''",  # erasing comes with a logged act of its own; not by a bare UPDATE
        "UPDATE receipts_receipt SET tenant_id = NULL",
        "UPDATE receipts_receipt SET seq = seq",
        "DELETE FROM receipts_receipt",
        "TRUNCATE receipts_receipt CASCADE",
    ],
    "receipts_bundle": [
        "UPDATE receipts_bundle SET entries = 'x'",
        "DELETE FROM receipts_bundle",
        "TRUNCATE receipts_bundle CASCADE",
    ],
    "receipts_checkpoint": [
        "UPDATE receipts_checkpoint SET root = 'x'",
        "DELETE FROM receipts_checkpoint",
        "TRUNCATE receipts_checkpoint CASCADE",
    ],
}
STATEMENTS = [statement for statements in CHANGES.values() for statement in statements]


def run(statement: str, *, role: str | None = None) -> None:
    with transaction.atomic(), connection.cursor() as cursor:
        if role:
            cursor.execute(f"SET LOCAL ROLE {role}")
        cursor.execute(statement)


@pytest.mark.parametrize("statement", STATEMENTS)
def test_even_the_owner_of_the_tables_can_not_change_evidence(evidence: Receipt, statement: str) -> None:
    with pytest.raises(IntegrityError, match="is evidence: rows are added, never changed or removed"):
        run(statement)
    assert Receipt.objects.get(pk=evidence.pk).body == evidence.body


@pytest.fixture
def application_role(db: None) -> str:
    """The role that production's processes use, with the rights that the migration gives it."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1 FROM pg_roles WHERE rolname = 'tallystick_app'")
        assert cursor.fetchone(), "the test engine makes the role before it migrates"
    return "tallystick_app"


@pytest.mark.parametrize("statement", STATEMENTS)
def test_the_application_s_role_lacks_the_right_to_change_evidence(
    evidence: Receipt, application_role: str, statement: str
) -> None:
    with pytest.raises(DatabaseError, match="permission denied"):
        run(statement, role=application_role)


@pytest.mark.parametrize(
    "statement",
    [
        "DROP TRIGGER receipts_receipt_kept ON receipts_receipt",
        "ALTER TABLE receipts_receipt DISABLE TRIGGER ALL",
        "ALTER TABLE receipts_receipt DROP COLUMN body",
        "DROP TABLE receipts_receipt CASCADE",
        "CREATE OR REPLACE FUNCTION tallystick_refuse_change() RETURNS trigger LANGUAGE sql AS 'SELECT NULL'",
        "SET session_replication_role = replica",
        "DELETE FROM django_migrations",
        "DELETE FROM receipts_chaintransaction",
        "DELETE FROM receipts_transactionhash",
        "DELETE FROM receipts_commit",
        "DELETE FROM minting_usage",
        "TRUNCATE minting_usage CASCADE",
    ],
)
def test_the_application_s_role_can_not_take_the_guards_away(
    evidence: Receipt, application_role: str, statement: str
) -> None:
    with pytest.raises(DatabaseError):
        run(statement, role=application_role)


@pytest.mark.django_db
def test_the_application_s_role_can_record(ada: Tenant, application_role: str) -> None:
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute(f"SET LOCAL ROLE {application_role}")
        record(event_type="JobSubmitted", subject=JOB, tenant_id="ada", actor=ACTOR, data=SUBMITTED, first=True)
        record(event_type="JobScheduled", subject=JOB, tenant_id="ada", actor=ACTOR, data=SCHEDULED, attempt=1)
        record(event_type="JobProgressUpdate", subject=JOB, tenant_id="ada", actor=ACTOR, data=PROGRESS, attempt=1, n=1)
    assert Receipt.objects.count() == 3


def test_the_orm_can_not_change_evidence_either(evidence: Receipt) -> None:
    evidence.seq = 2
    with pytest.raises(IntegrityError), transaction.atomic():
        evidence.save()
    with pytest.raises(IntegrityError), transaction.atomic():
        Receipt.objects.all().delete()


def test_every_table_of_evidence_has_both_guards(db: None) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT tgrelid::regclass::text, tgname FROM pg_trigger WHERE NOT tgisinternal")
        guards = set(cursor.fetchall())
    for table in CHANGES:
        assert {(table, f"{table}_kept"), (table, f"{table}_whole")} <= guards
