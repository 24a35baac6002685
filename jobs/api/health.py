"""Ask the engines how they are: each at once, within two seconds, and never more than once at a time."""

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from threading import Lock
from typing import Any, Final

from django.conf import settings
from django.db import DatabaseError, connection

from receipts.api.state import log_state, witness_state
from receipts.chain.client import ChainError, Rpc

DEADLINE_S: Final = 2.0
_TRY_S: Final = 0.5
KEPT_S: Final = 1.0  # strangers may ask: their questions must not become load
LAG_ALARM_S: Final = 60.0


class Sick(Exception):
    """An engine does not do what it should; the text is shown to strangers."""


def ask_database() -> dict[str, Any]:
    """Have the database answer."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    return {}


def ask_log() -> dict[str, Any]:
    """See that receipts become leaves, and leaves are signed for."""
    state = log_state()
    if state is None:
        raise Sick("no log has been founded")
    if state.lag_s > LAG_ALARM_S:
        raise Sick(f"the oldest receipt has waited {state.lag_s:.0f} s for its leaf")
    told = {"size": state.size, "checkpoint": state.checkpoint, "lag_s": state.lag_s}
    # Late witnesses are shown, not sick: this house works, and what waits for them says so.
    seen = witness_state()
    return told | ({"final": seen.final, "witness_lag_s": seen.lag_s} if seen else {})


def ask_broker() -> dict[str, Any]:
    """Have the broker answer."""
    import redis

    url = settings.CELERY_BROKER_URL.replace("redis+socket://", "unix://", 1)
    with redis.Redis.from_url(url, socket_timeout=_TRY_S, socket_connect_timeout=_TRY_S) as broker:
        try:
            broker.ping()
        except (redis.RedisError, OSError):
            raise Sick("does not answer") from None
    return {}


def ask_chain() -> dict[str, Any]:
    """Have the node say which chain it serves, and how long it is."""
    if not settings.CHAIN_RPC_URL:
        return {"note": "no chain is configured: nothing is anchored or minted"}
    try:
        rpc = Rpc(settings.CHAIN_RPC_URL, timeout_seconds=_TRY_S, sleep=lambda _: None)
        rpc.require_chain(settings.CHAIN_ID)
        return {"chain_id": settings.CHAIN_ID, "block": int(rpc.read("eth_blockNumber"), 16)}
    except ChainError as error:
        raise Sick(str(error)) from None


CHECKS: Final[dict[str, Callable[[], dict[str, Any]]]] = {
    "database": ask_database,
    "broker": ask_broker,
    "chain": ask_chain,
    "log": ask_log,
}


class Health:
    """The newest answers, and the questions under way."""

    def __init__(self, checks: dict[str, Callable[[], dict[str, Any]]]) -> None:
        self._checks = checks
        self._pool = ThreadPoolExecutor(max_workers=len(checks), thread_name_prefix="health")
        self._asked: dict[str, Future[dict[str, Any]]] = {}
        self._lock = Lock()
        self._kept: tuple[float, dict[str, dict[str, Any]]] | None = None

    def ask(self) -> dict[str, dict[str, Any]]:
        """Give each engine's answer: `ok`, and what it says or why it is not."""
        with self._lock:
            if self._kept and time.monotonic() - self._kept[0] < KEPT_S:
                return self._kept[1]
            for name, check in self._checks.items():
                # One that still hangs is not asked again: hanging threads must not pile up.
                if name not in self._asked:
                    self._asked[name] = self._pool.submit(_run, check)
            wait(self._asked.values(), timeout=DEADLINE_S)
            answers = {name: self._answer(name) for name in self._checks}
            self._kept = (time.monotonic(), answers)
            return answers

    def _answer(self, name: str) -> dict[str, Any]:
        if not self._asked[name].done():
            return {"ok": False, "detail": f"no answer within {DEADLINE_S:.0f} s"}
        return self._asked.pop(name).result()


def _run(check: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    began = time.monotonic()
    try:
        said = {"ok": True} | check()
    except Sick as error:
        said = {"ok": False, "detail": str(error)}
    except DatabaseError:
        said = {"ok": False, "detail": "the database does not answer"}
    finally:
        connection.close()  # this thread's own: it goes back to the pool
    return said | {"ms": round((time.monotonic() - began) * 1000)}


health = Health(CHECKS)
