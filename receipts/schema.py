"""Compile a JSON Schema into a check, once: every move of a job pays for the check of its receipt. Pure.

The library that everyone trusts walks the schema anew for each value, at the cost of writing the receipt's row
several times over. A test holds this against it, on every event and every change of it.

Source: JSON Schema 2020-12, the keywords that `receipts.events` uses; another one is refused when compiling.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

Check = Callable[[Any], None]
_SAYS_NOTHING: Final = frozenset({"$schema", "title", "description"})
_OF_OBJECTS: Final = frozenset({"properties", "required", "additionalProperties", "propertyNames", "maxProperties"})


class Misfit(ValueError):
    """A value leaves its schema: `rule` says how, `where` in it."""

    def __init__(self, rule: str) -> None:
        super().__init__(rule)
        self.rule = rule
        self._path: list[str] = []

    @property
    def where(self) -> str:
        """The place, as names joined by points; `$` is the whole value."""
        return ".".join(reversed(self._path)) or "$"

    def inside(self, name: object) -> "Misfit":
        """Say that the place lies inside the field or item `name`."""
        self._path.append(str(name)[:60])
        return self


class UnknownKeyword(ValueError):
    """A schema uses a keyword that is not compiled here."""


def compiled(schema: Mapping[str, Any]) -> Check:
    """Compile a schema. The check raises Misfit for the first rule that a value breaks.

    Raises: UnknownKeyword.
    """
    checks = [_KEYWORDS[name](wanted) for name, wanted in _known(schema).items() if name not in _OF_OBJECTS]
    if schema.keys() & _OF_OBJECTS:
        checks.append(_object(schema))
    if len(checks) == 1:
        return checks[0]

    def check(value: Any) -> None:
        for one in checks:
            one(value)

    return check


def _known(schema: Mapping[str, Any]) -> dict[str, Any]:
    found = {name: wanted for name, wanted in schema.items() if name not in _SAYS_NOTHING}
    if unknown := found.keys() - _KEYWORDS.keys() - _OF_OBJECTS:
        raise UnknownKeyword(f"{min(unknown)} is not compiled here")
    return found


def _type(wanted: str) -> Check:
    kind = _TYPES[wanted]

    def check(value: Any) -> None:
        # True is an int to Python, and to nobody else.
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise Misfit(f"must be of the type {wanted}")

    return check


def _const(wanted: Any) -> Check:
    def check(value: Any) -> None:
        if type(value) is not type(wanted) or value != wanted:
            raise Misfit(f"must be {wanted!r}")

    return check


def _enum(wanted: list[str]) -> Check:
    words = frozenset(wanted)

    def check(value: Any) -> None:
        if not isinstance(value, str) or value not in words:
            raise Misfit(f"must be one of {', '.join(wanted)}")

    return check


def _pattern(wanted: str) -> Check:
    fits = re.compile(wanted).search

    def check(value: Any) -> None:
        if isinstance(value, str) and fits(value) is None:
            raise Misfit(f"must fit {wanted}")

    return check


def _bound(kind: type, breaks: Callable[[Any, int], bool], says: str) -> Callable[[int], Check]:
    def compile_(wanted: int) -> Check:
        def check(value: Any) -> None:
            if isinstance(value, kind) and breaks(value, wanted):
                raise Misfit(f"{says} {wanted}")

        return check

    return compile_


def _items(wanted: Mapping[str, Any]) -> Check:
    item_fits = compiled(wanted)

    def check(value: Any) -> None:
        if isinstance(value, list):
            for index, item in enumerate(value):
                try:
                    item_fits(item)
                except Misfit as misfit:
                    raise misfit.inside(index) from None

    return check


def _object(schema: Mapping[str, Any]) -> Check:
    """Compile all that is said of an object's fields into one walk over them."""
    known = {name: compiled(wanted) for name, wanted in schema.get("properties", {}).items()}
    required = tuple(schema.get("required", ()))
    others = schema.get("additionalProperties", True)
    other_fits = compiled(others) if isinstance(others, Mapping) else None
    name_fits = compiled(schema["propertyNames"]) if "propertyNames" in schema else None
    most = schema.get("maxProperties")

    def check(value: Any) -> None:
        if not isinstance(value, dict):
            return
        if most is not None and len(value) > most:
            raise Misfit(f"must have at most {most} fields")
        for name in required:
            if name not in value:
                raise Misfit("must be there").inside(name)
        for name, item in value.items():
            fits = known.get(name, other_fits)
            try:
                if name_fits is not None:
                    name_fits(name)
                if fits is not None:
                    fits(item)
                elif others is False:
                    raise Misfit("must not be there")
            except Misfit as misfit:
                raise misfit.inside(name) from None

    return check


_TYPES: Final[dict[str, type]] = {"object": dict, "array": list, "string": str, "integer": int, "boolean": bool}
_KEYWORDS: Final[dict[str, Callable[[Any], Check]]] = {
    "type": _type,
    "const": _const,
    "enum": _enum,
    "pattern": _pattern,
    "items": _items,
    "minimum": _bound(int, lambda value, bound: value < bound, "must be at least"),
    "maximum": _bound(int, lambda value, bound: value > bound, "must be at most"),
    "minLength": _bound(str, lambda value, bound: len(value) < bound, "must have at least so many characters:"),
    "maxLength": _bound(str, lambda value, bound: len(value) > bound, "must have at most so many characters:"),
    "minItems": _bound(list, lambda value, bound: len(value) < bound, "must have at least so many items:"),
    "maxItems": _bound(list, lambda value, bound: len(value) > bound, "must have at most so many items:"),
}
