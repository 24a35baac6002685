"""API keys: found by their prefix, proved by their digest, refused once revoked."""

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from jobs.models import ApiKey
from tests.jobs.api.cast import Program


def asking(key: str) -> int:
    return Client(headers={"Authorization": key}).get("/api/v1/jobs").status_code


def test_a_key_in_force_lets_its_program_in(ada: Program) -> None:
    assert asking(f"Bearer {ada.key}") == 200
    assert asking(f"bearer {ada.key}") == 200


def test_a_key_costs_one_query_and_brings_its_tenant(ada: Program) -> None:
    with CaptureQueriesContext(connection) as asked:
        assert ada.get("/api/v1/jobs").status_code == 200
    assert sum("jobs_apikey" in query["sql"] for query in asked) == 1
    assert not any('FROM "receipts_tenant"' in query["sql"] for query in asked)


def test_no_key_is_asked_for_by_name() -> None:
    answer = Client().get("/api/v1/jobs")
    assert answer.status_code == 401
    assert answer["WWW-Authenticate"] == 'Bearer realm="tallystick"'
    assert answer.json()["type"] == "/api/v1/problems#who-are-you"


def test_a_wrong_secret_under_a_known_prefix_is_refused(ada: Program) -> None:
    other = "A" if ada.key[-1] != "A" else "B"
    assert asking(f"Bearer {ada.key[:-1]}{other}") == 401


@pytest.mark.parametrize("key", ["", "ts_", "ts_abcdefgh_", "ts_abcdefgh_" + "x" * 43, "x" * 5000, "ts_é", "a b c"])
def test_what_is_no_key_is_refused(ada: Program, key: str) -> None:
    assert asking(f"Bearer {key}") == 401


def test_what_is_no_key_costs_no_query(ada: Program) -> None:
    with CaptureQueriesContext(connection) as asked:
        assert asking("Bearer nonsense") == 401
    assert len(asked) == 0


def test_a_revoked_key_is_refused(ada: Program) -> None:
    ApiKey.objects.filter(tenant=ada.tenant).update(revoked_at=timezone.now())
    answer = ada.get("/api/v1/jobs")
    assert answer.status_code == 401
    assert answer.json()["type"] == "/api/v1/problems#unknown-key"


def test_the_database_holds_nothing_that_lets_one_in(ada: Program) -> None:
    row = ApiKey.objects.get(prefix=ada.key[:11])
    assert ada.key not in (row.prefix, row.digest)
    assert asking(f"Bearer {row.prefix}_{row.digest}") == 401
