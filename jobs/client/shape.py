"""Check a value against the small part of JSON Schema that our events use. Pure.

The writer checks with the library `jsonschema`; the verifier does not share its shortcuts, starts
faster, and reads a pattern as the whole text (the library's `$` lets a final newline pass).

Source: JSON Schema 2020-12, the keywords in `_KEYWORDS`.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

_ANNOTATIONS: Final = frozenset({"$schema", "title", "description"})
_OBJECT: Final = frozenset({"properties", "required", "additionalProperties"})
_INNER: Final = frozenset({"items", "propertyNames"})


@dataclass(frozen=True, slots=True)
class Fault:
    """Where a value leaves its shape, by which rule, and what stands there."""

    where: str
    rule: str
    found: Any


def find_fault(schema: Mapping[str, Any], value: Any, where: str = "") -> Fault | None:
    """Find the first place where `value` is not as `schema` wants it; None when it fits."""
    for keyword, wanted in schema.items():
        if keyword in _ANNOTATIONS or keyword in _OBJECT:
            continue
        fault = _KEYWORDS[keyword](wanted, value, where)
        if fault is not None:
            return fault
    return _object_fault(schema, value, where) if schema.keys() & _OBJECT else None


def fitting(schema: Mapping[str, Any]) -> Callable[[Any], bool]:
    """Compile a schema that many values are held against into a check that says only whether a value fits.

    A test holds it against `find_fault`, which says where a value does not.
    """
    names = schema.keys() - _ANNOTATIONS
    if names == {"type", "pattern"} and schema["type"] == "string":
        matches = re.compile(schema["pattern"]).fullmatch
        return lambda value: isinstance(value, str) and matches(value) is not None
    if names == {"type", "minimum", "maximum"} and schema["type"] == "integer":
        least, most = schema["minimum"], schema["maximum"]
        return lambda value: type(value) is int and least <= value <= most
    words = [_as_test(_KEYWORDS[keyword], schema[keyword]) for keyword in names - _OBJECT - _INNER]
    if "items" in schema:
        item_fits = fitting(schema["items"])
        words.append(lambda value: not isinstance(value, list) or all(map(item_fits, value)))
    if "propertyNames" in schema:
        name_fits = fitting(schema["propertyNames"])
        words.append(lambda value: not isinstance(value, dict) or all(map(name_fits, value)))
    if names & _OBJECT:
        words.append(_object_fits(schema))
    if len(words) == 1:
        return words[0]

    def check(value: Any) -> bool:
        for fits in words:  # noqa: SIM110  a generator costs as much as the checks
            if not fits(value):
                return False
        return True

    return check


def _as_test(keyword: "Keyword", wanted: Any) -> Callable[[Any], bool]:
    """Turn a keyword into a test."""
    if keyword is _type:
        return _TYPES[wanted]
    return lambda value: keyword(wanted, value, "") is None


def _object_fits(schema: Mapping[str, Any]) -> Callable[[Any], bool]:
    known = {name: fitting(wanted) for name, wanted in schema.get("properties", {}).items()}
    rest: Any = schema.get("additionalProperties", True)
    other = fitting(rest) if isinstance(rest, Mapping) else (lambda _: rest is not False)
    required = frozenset(schema.get("required", ()))
    fitting_of = known.get

    def check(value: Any) -> bool:
        if not isinstance(value, dict):
            return True
        if not required <= value.keys():
            return False
        for name, item in value.items():  # noqa: SIM110  a generator costs as much as the checks
            if not fitting_of(name, other)(item):
                return False
        return True

    return check


def _type(wanted: str, value: Any, where: str) -> Fault | None:
    if not _TYPES[wanted](value):
        return Fault(where, f"is not of the type {wanted}", value)
    return None


def _const(wanted: Any, value: Any, where: str) -> Fault | None:
    # 1 == True to Python, and to nobody else.
    if type(value) is not type(wanted) or value != wanted:
        return Fault(where, f"is not {wanted!r}", value)
    return None


def _enum(wanted: list[Any], value: Any, where: str) -> Fault | None:
    if not isinstance(value, str) or value not in wanted:
        return Fault(where, f"is none of {', '.join(map(str, wanted))}", value)
    return None


def _pattern(wanted: str, value: Any, where: str) -> Fault | None:
    if isinstance(value, str) and not re.fullmatch(wanted, value):
        return Fault(where, f"is not of the form {_plain(wanted)}", value)
    return None


def _bound(name: str, fits: Callable[[Any, int], bool], kind: type) -> "Keyword":
    def check(wanted: int, value: Any, where: str) -> Fault | None:
        if isinstance(value, kind) and not fits(value, wanted):
            return Fault(where, f"breaks {name} {wanted}", value)
        return None

    return check


def _items(wanted: Mapping[str, Any], value: Any, where: str) -> Fault | None:
    if not isinstance(value, list):
        return None
    faults = (find_fault(wanted, item, f"{where}[{index}]") for index, item in enumerate(value))
    return next(filter(None, faults), None)


def _property_names(wanted: Mapping[str, Any], value: Any, where: str) -> Fault | None:
    if not isinstance(value, dict):
        return None
    faults = (find_fault(wanted, name, _join(where, name)) for name in value)
    return next(filter(None, faults), None)


def _object_fault(schema: Mapping[str, Any], value: Any, where: str) -> Fault | None:
    """Check properties, required and additionalProperties together: one walk over an object's fields."""
    if not isinstance(value, dict):
        return None
    known: Mapping[str, Any] = schema.get("properties", {})
    rest: Any = schema.get("additionalProperties", True)
    for name in schema.get("required", ()):
        if name not in value:
            return Fault(_join(where, name), "is missing", None)
    for name, item in value.items():
        if name not in known and rest is False:
            return Fault(_join(where, name), "is no field here", item)
        wanted = known.get(name, rest)
        if isinstance(wanted, Mapping) and (fault := find_fault(wanted, item, _join(where, name))):
            return fault
    return None


def _plain(pattern: str) -> str:
    return pattern.removeprefix("^").removesuffix("(?!\\n)").removesuffix("$")


def _join(where: str, name: str) -> str:
    return f"{where}.{name[:60]}" if where else name[:60]


Keyword = Callable[[Any, Any, str], Fault | None]

_TYPES: Final[dict[str, Callable[[Any], bool]]] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "boolean": lambda value: isinstance(value, bool),
}
_KEYWORDS: Final[dict[str, Keyword]] = {
    "type": _type,
    "const": _const,
    "enum": _enum,
    "pattern": _pattern,
    "minimum": _bound("minimum", lambda value, bound: value >= bound, int),
    "maximum": _bound("maximum", lambda value, bound: value <= bound, int),
    "minLength": _bound("minLength", lambda value, bound: len(value) >= bound, str),
    "maxLength": _bound("maxLength", lambda value, bound: len(value) <= bound, str),
    "minItems": _bound("minItems", lambda value, bound: len(value) >= bound, list),
    "maxItems": _bound("maxItems", lambda value, bound: len(value) <= bound, list),
    "maxProperties": _bound("maxProperties", lambda value, bound: len(value) <= bound, dict),
    "items": _items,
    "propertyNames": _property_names,
}
