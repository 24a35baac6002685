"""What can go wrong with a job, each named after the rule it breaks. HTTP is decided at the door."""

from typing import Any


class JobError(Exception):
    """The root of what a caller of `jobs` may have to handle. `retry` answers: may I try again as I am?"""

    retry = False


class BadRequest(JobError):
    """A request breaks `rule` at `field`."""

    def __init__(self, field: str, value: Any, rule: str) -> None:
        super().__init__(f"{field} {rule}")
        self.field = field
        self.value = value
        self.rule = rule


class IdempotencyConflict(JobError):
    """The Idempotency-Key came before, with another body."""


class StillRunning(JobError):
    """A request with this Idempotency-Key is being worked on right now."""

    retry = True


class QueueFull(JobError):
    """The tenant has as many unfinished jobs as the house allows."""

    retry = True

    def __init__(self, limit: int) -> None:
        super().__init__(f"{limit} unfinished jobs, which is the limit of one tenant")
        self.limit = limit


class IllegalMove(JobError):
    """No move leads from where the job stands to where it was to go."""

    def __init__(self, subject: str, from_: str, to: str) -> None:
        super().__init__(f"{subject} is {from_}; no move leads from there to {to}")
        self.from_ = from_
        self.to = to


class NotYet(JobError):
    """What is asked for will be there later: `reason` says what it waits for."""

    retry = True

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class LeaseLost(JobError):
    """The attempt no longer holds the job's lease: its lease ran out, or the job was called off."""

    def __init__(self, fencing: int) -> None:
        super().__init__(f"fencing number {fencing} no longer holds the lease")
        self.fencing = fencing


class ClaimRefused(JobError):
    """A worker's signed claim does not fit its lease: `rule` says how."""

    def __init__(self, rule: str) -> None:
        super().__init__(rule)
        self.rule = rule
