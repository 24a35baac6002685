"""Say how a check ended: a verdict names the claim, the field, both values, and who would have to lie. Pure.

A step returns what it found out, or raises one of the four other ends. Nothing is ever a bare true or false.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from receipts.canonical import NotCanonical

_SHOWN: Final = 200


class Word(StrEnum):
    """How a claim stands."""

    HOLDS = "holds"
    BROKEN = "broken"
    UNKNOWN = "unknown"
    NOT_CLAIMED = "not claimed"


@dataclass(frozen=True, slots=True)
class Fault:
    """One place where a claim breaks: the field, the rule, and both values where there are two."""

    field: str
    rule: str
    expected: str | None = None
    found: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """How one claim stands. `field`, `expected` and `found` are those of the first fault; `also` are the others."""

    claim: str
    verdict: Word
    detail: str
    false_only_if: str
    field: str | None = None
    expected: str | None = None
    found: str | None = None
    also: tuple[Fault, ...] = ()


class Broken(Exception):
    """A claim breaks at `fault`."""

    def __init__(self, where: str, rule: str, *, expected: Any = None, found: Any = None) -> None:
        super().__init__(f"{where}: {rule}")
        self.fault = Fault(where, rule, _shown(expected), _shown(found))


class Unknown(Exception):
    """A claim can't be judged: the message says what is missing."""


class Newer(Unknown):
    """A claim can't be judged by a verifier of this age."""


class NotClaimed(Exception):
    """Nobody claims this here: the message says why."""


@dataclass(slots=True)
class Faults:
    """Gather faults over many receipts, so that every broken one is named, and stop at the end."""

    found: list[Fault] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)

    @contextmanager
    def gathered(self) -> Iterator[None]:
        """Note how the block ends and go on."""
        try:
            yield
        except Newer:
            raise
        except Broken as error:
            self.found.append(error.fault)
        except Unknown as error:
            self.missing.append(str(error))

    def settle(self) -> None:
        """Raise what was gathered: broken counts before unknown. Raises: ManyBroken, Unknown."""
        if self.found:
            raise ManyBroken(tuple(self.found))
        if self.missing:
            raise Unknown("; ".join(dict.fromkeys(self.missing)))


class ManyBroken(Exception):
    """A claim breaks in several places."""

    def __init__(self, faults: tuple[Fault, ...]) -> None:
        super().__init__(f"{faults[0].field}: {faults[0].rule}")
        self.faults = faults


def require_equal(where: str, found: Any, expected: Any, rule: str) -> None:
    """Insist that two values are one. Raises: Broken, with both."""
    if type(found) is not type(expected) or found != expected:
        raise Broken(where, rule, expected=expected, found=found)


@contextmanager
def reading(where: str, *errors: type[ValueError]) -> Iterator[None]:
    """Turn the named errors of a reader into a break at `where`. Raises: Broken."""
    known: tuple[type[ValueError], ...] = (NotCanonical, *errors)
    try:
        yield
    except known as error:
        raise Broken(where, str(error)) from None


def _shown(value: Any) -> str | None:
    if value is None:
        return None
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"
