"""What every test may need."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.db.backends.postgresql.operations import DatabaseOperations


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
