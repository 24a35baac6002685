"""Many first receipts at once are what they would have been one by one."""

from typing import Any

import pytest
from django.db import transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from receipts.canonical import decode_canonical
from receipts.check import check_log
from receipts.log import turn
from receipts.models import Pending, Receipt, Tenant, Thread, Uncommitted
from receipts.record import AlreadyRecorded, First, NotAReceipt, record, record_many
from tests.receipts import small_log
from tests.receipts.examples import examples
from tests.receipts.test_record import ACTOR, JOB, SUBMITTED, queries

pytestmark = pytest.mark.django_db
CENSUS = decode_canonical(examples()["Census"])["data"]
ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"


def first(number: int = 0, **rest: Any) -> First:
    subject = JOB[:-2] + ALPHABET[number >> 5] + ALPHABET[number & 31]
    given: dict[str, Any] = {
        "event_type": "JobSubmitted",
        "subject": subject,
        "tenant_id": "ada",
        "actor": ACTOR,
        "data": SUBMITTED,
    }
    return First(**given | rest)


def census(number: int, n: int) -> First:
    told: dict[str, Any] = {"event_type": "Census", "tenant_id": None, "data": CENSUS, "n": n}
    return first(subject=f"census-{number}", **told)


def state() -> tuple[list[Any], ...]:
    """All that a batch leaves, without what is random or a clock's in it."""
    receipts = []
    for row in Receipt.objects.order_by("id"):
        body = {name: value for name, value in decode_canonical(bytes(row.body)).items() if name not in HIDDEN}
        receipts.append((row.tenant_id, row.subject, row.event_type, row.attempt, row.n, row.seq, row.origin, body))
    threads = Thread.objects.order_by("subject").values_list("subject", "tenant_id", "seq", "commit_each")
    heads = [Receipt.objects.get(nid=thread.head_nid).subject for thread in Thread.objects.order_by("subject")]
    firsts = [Receipt.objects.get(nid=thread.first_nid).subject for thread in Thread.objects.order_by("subject")]
    pending = Pending.objects.order_by("pk").values_list("receipt__subject", flat=True)
    wished = Uncommitted.objects.order_by("pk").values_list("receipt__subject", flat=True)
    return receipts, list(threads), heads, firsts, list(pending), list(wished)


HIDDEN = {"salt", "occurredAt"}


class Undone(Exception):
    """The savepoint is rolled back."""


def outcome(firsts: list[First], *, many: bool) -> object:
    """Write, look, undo; a refusal is an outcome too."""
    seen: object = None
    try:
        with transaction.atomic():
            if many:
                record_many(firsts)
            else:
                for one in firsts:
                    words = {name: getattr(one, name) for name in First.__dataclass_fields__}
                    record(**words, first=True)
            seen = state()
            raise Undone
    except Undone:
        return seen
    except (AlreadyRecorded, NotAReceipt):
        return "refused"  # a batch checks all before it writes any: of two faults it may name the other one


FIRSTS = st.lists(
    st.one_of(
        st.builds(
            lambda number, origin: first(number, origin=origin),
            st.integers(0, 60),
            st.sampled_from(["hosted", "reported", "simulated"]),
        ),
        st.builds(census, st.integers(0, 9), st.integers(0, 3)),
        st.just(first(data={"kind": "no such field"})),
    ),
    max_size=12,
)


@pytest.mark.parametrize("policy", ["batch", "each"])
@given(firsts=FIRSTS)
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_batch_is_what_its_receipts_would_be_one_by_one(
    db: None, django_settings: Any, policy: str, firsts: list[First]
) -> None:
    django_settings.COMMIT_POLICY = policy
    Tenant.objects.get_or_create(id="ada", defaults={"name": "Ada"})
    assert outcome(firsts, many=True) == outcome(firsts, many=False)


@pytest.fixture
def django_settings(settings: Any) -> Any:
    return settings


@pytest.fixture
def ada(db: None) -> Tenant:
    return Tenant.objects.create(id="ada", name="Ada")


def test_a_batch_costs_the_same_few_statements_however_large(ada: Tenant) -> None:
    counts = []
    for start, size in ((0, 2), (10, 200)):
        with transaction.atomic(), queries() as seen:
            record_many([first(start + at) for at in range(size)])
        counts.append(len(seen))
    assert counts[0] == counts[1] <= 4


def test_every_receipt_of_a_batch_has_its_own_salt_and_its_bytes_are_kept(ada: Tenant) -> None:
    with transaction.atomic():
        written = record_many([first(at) for at in range(50)])
    assert len({decode_canonical(one.body)["salt"] for one in written}) == 50
    assert [bytes(row.body) for row in Receipt.objects.order_by("id")] == [one.body for one in written]


def test_one_that_is_refused_refuses_all(ada: Tenant) -> None:
    with transaction.atomic():
        record_many([first(7)])
    with pytest.raises(AlreadyRecorded), transaction.atomic():
        record_many([first(6), first(7)])
    with pytest.raises(NotAReceipt, match="JobSubmitted"), transaction.atomic():
        record_many([first(6), first(8, data={})])
    assert Receipt.objects.count() == Pending.objects.count() == Thread.objects.count() == 1


def test_a_batch_becomes_leaves_that_a_check_finds_whole(db: None, settings: Any, tmp_path: Any) -> None:
    small_log.found(settings, tmp_path)
    with transaction.atomic():
        record_many([first(at) for at in range(300)])
    assert turn().published == 300
    assert list(check_log()) == []


def test_an_empty_batch_writes_nothing(db: None) -> None:
    with transaction.atomic(), queries() as seen:
        assert record_many([]) == []
    assert seen == []
