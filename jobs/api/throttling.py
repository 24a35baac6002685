"""Bound how often one caller asks, by counting in the cache.

A process takes requests from the cache a hundredth of the limit at a time, so that most requests ask nobody.
The limit is never exceeded; a caller may be refused early by what other processes took and did not use.

A dead cache lets requests through: the limit guards against floods, and an API that is down for want of a
counter would be the worse outcome. It is said in the log, and the cache is left alone for a while, so that
its timeouts don't slow every request.
"""

import logging
import sys
import time
from threading import Lock
from typing import TYPE_CHECKING, Final

from django.core.cache import cache
from rest_framework.request import Request
from rest_framework.settings import api_settings
from rest_framework.throttling import BaseThrottle

if TYPE_CHECKING:
    from rest_framework.views import APIView  # it imports this module while it is imported itself

log = logging.getLogger(__name__)
_PERIODS: Final = {"s": 1, "sec": 1, "min": 60, "m": 60, "hour": 3600, "h": 3600, "day": 86_400, "d": 86_400}
LEAVE_ALONE_SECONDS: Final = 10.0
_KEPT: Final = 10_000  # callers that a process remembers what it took for
_dead_until = 0.0


class BadRate(ValueError):
    """RATE_LIMIT is not of the form 600/min."""


class Taken:
    """What this process took from the cache and has not used: caller to (window, requests left)."""

    def __init__(self) -> None:
        self._left: dict[str, tuple[int, int]] = {}
        self._lock = Lock()

    def use(self, caller: str, window: int) -> bool:
        """Use one request; false when none is left in this window."""
        with self._lock:
            kept, left = self._left.get(caller, (window, 0))
            if kept != window or left < 1:
                return False
            self._left[caller] = (window, left - 1)
            return True

    def add(self, caller: str, window: int, count: int) -> None:
        """Keep what was taken; what is kept of other callers goes when there are too many."""
        with self._lock:
            if len(self._left) >= _KEPT:
                self._left.clear()
            kept, left = self._left.get(caller, (window, 0))
            self._left[caller] = (window, count + (left if kept == window else 0))

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._left.clear()


taken = Taken()


class ByApiKey(BaseThrottle):
    """So many requests in each window of an API key; of a person, of an address where nobody is named."""

    def __init__(self) -> None:
        self.limit, self.window_s = read_rate(str(api_settings.DEFAULT_THROTTLE_RATES["api-key"]))
        self._left_s = 0.0

    def allow_request(self, request: Request, view: "APIView") -> bool:
        """Count this request and tell whether it is within the limit; true while the cache is dead."""
        global _dead_until
        now = time.time()
        window = int(now // self.window_s)
        self._left_s = (window + 1) * self.window_s - now
        caller = self._caller(request)
        if taken.use(caller, window) or time.monotonic() < _dead_until:
            return True
        try:
            return self._take(caller, window)
        except Exception as error:
            if not _is_of_the_cache(error):
                raise
            _dead_until = time.monotonic() + LEAVE_ALONE_SECONDS
            log.warning("the cache does not answer: for %.0f s no rate limit holds", LEAVE_ALONE_SECONDS)
            return True

    def wait(self) -> float:
        """Say for how many seconds the limit still holds."""
        return self._left_s

    def _take(self, caller: str, window: int) -> bool:
        """Take some requests from the cache and use one of them; false when none is left."""
        share = max(1, self.limit // 100)
        counted = self._count(f"rate:{caller}:{window}", share)
        granted = min(share, self.limit - (counted - share))
        if granted < 1:
            return False
        taken.add(caller, window, granted - 1)
        return True

    def _count(self, key: str, by: int) -> int:
        try:
            return int(cache.incr(key, by))
        except ValueError:
            # The first one in this window; if another was faster, add() changes nothing.
            cache.add(key, 0, timeout=self.window_s + 5)
            return int(cache.incr(key, by))

    def _caller(self, request: Request) -> str:
        if request.user is not None and request.user.is_authenticated:
            return f"{type(request.user).__name__}:{request.user.pk}"
        return f"address:{self.get_ident(request)}"


def _is_of_the_cache(error: Exception) -> bool:
    # Importing redis takes half a second, which who uses it has spent already, and `manage.py check` need not.
    redis = sys.modules.get("redis.exceptions")
    return isinstance(error, OSError) or (redis is not None and isinstance(error, redis.RedisError))


def read_rate(rate: str) -> tuple[int, int]:
    """Read a limit such as `600/min`: requests, and the seconds of its window. Raises: BadRate."""
    number, _, period = rate.partition("/")
    if not number.isdigit() or period not in _PERIODS:
        raise BadRate(f"RATE_LIMIT is {rate!r}; write a number, a slash and one of {', '.join(_PERIODS)}")
    return int(number), _PERIODS[period]


def forget() -> None:
    """Forget what was taken, and ask the cache again at once."""
    global _dead_until
    _dead_until = 0.0
    taken.clear()
