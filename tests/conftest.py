"""What every test may need."""

import gc
import time
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection
from django.db.backends.postgresql.operations import DatabaseOperations
from pytest_django.plugin import DjangoDbBlocker

OTHERS = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """Drop the test database once nobody else is in it.

    A thread of a live server keeps its database connection until it has seen its client leave. That may be a moment
    after the last test; and a client of `requests` leaves for good when its pool of connections is collected.
    """
    yield
    gc.collect()
    until = time.monotonic() + 5
    with django_db_blocker.unblock():
        while others() and time.monotonic() < until:
            time.sleep(0.02)


def others() -> int:
    """Count the other sessions in our database."""
    with connection.cursor() as cursor:
        cursor.execute(OTHERS)
        return int(cursor.fetchone()[0])


@pytest.fixture(autouse=True, scope="session")
def flush_past_the_guards() -> Iterator[None]:
    """Let Django empty the tables between transactional tests: as superuser, past the triggers that guard evidence.

    Within a test the guards stand as they do in production.
    """
    flush = DatabaseOperations.execute_sql_flush

    def past_the_guards(self: DatabaseOperations, sql_list: list[str]) -> Any:
        unguarded = ["SET session_replication_role = replica", *sql_list, "SET session_replication_role = origin"]
        return flush(self, unguarded)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DatabaseOperations, "execute_sql_flush", past_the_guards)
        yield


@pytest.fixture(autouse=True, scope="module")
def forget_rates() -> None:
    """Let every module begin with its whole rate: the cache counts what earlier ones asked in this minute."""
    from django.core.cache import cache

    from jobs.api.throttling import taken

    cache.clear()
    taken.clear()
