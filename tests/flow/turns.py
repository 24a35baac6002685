"""Turn the house's crank by hand, as beat does, until something is so."""

import time
from collections.abc import Callable
from typing import TypeVar

from jobs import pipeline
from receipts import log
from receipts.anchor import anchor
from receipts.chain import sender

T = TypeVar("T")


def turn_until(wanted: Callable[[], T], *, advancing: str | None = None, seconds: float = 60) -> T:
    """Turn log, anchors, sender and one job until `wanted` gives something; fail after `seconds`."""
    until = time.monotonic() + seconds
    while True:
        if advancing:
            pipeline.advance(advancing)
        log.turn()
        anchor()
        report = sender.turn()
        found = wanted()
        if found is not None and found is not False:
            return found
        assert time.monotonic() < until, f"not within {seconds} s; the sender says {report}"
        if not report.moved:
            time.sleep(0.2)  # the chain makes a block a second
