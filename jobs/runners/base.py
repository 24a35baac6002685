"""Say what a runner is: a kind of work that is set up once and run often.

A runner declares its inputs as an `InputSchema`, which the web process imports to check a request before anything
is written. So nothing here, and nothing at the top of a runner's module, may import torch or the like: heavy imports
belong into `setup()` and `run()`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, get_args

MAX_SAFE_INTEGER = 2**53 - 1
"""The largest integer that canonical JSON carries as a number (RFC 8785 §3.2.2.3)."""

MAX_DECIMAL_PLACES = 6

FieldType = Literal["text", "integer", "decimal", "choice", "file"]

Value = int | str
"""What an input is once it is normalised. Decimals are text ("7.5"): a float has no one spelling to hash."""

Inputs = Mapping[str, Value]

# Plain notation alone: "1e3", "+5", ".5" and "5." all have one other spelling that everybody reads.
_DECIMAL = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?")
_DECIMAL_DIGITS = 30
# CIDv1, raw, sha2-256, in lower-case base32: what receipts call a NID.
_NID = re.compile(r"bafkrei[a-z2-7]{52}")


class RunnerError(Exception):
    """A job can't be run, or not to its end.

    `class_` is the failure's class as receipts name it. `may_pass` answers "may it be tried again?".
    """

    def __init__(self, class_: str, *, may_pass: bool, detail: str = "") -> None:
        super().__init__(f"{class_}: {detail}" if detail else class_)
        self.class_ = class_
        self.may_pass = may_pass
        self.detail = detail


class BadInput(RunnerError):
    """An input breaks its rule. The message names field and rule, never the value, which may be private or huge."""

    def __init__(self, field: str, value: object, rule: str) -> None:
        super().__init__("bad-input", may_pass=False, detail=f"{field} {rule}")
        self.field = field
        self.value = value
        self.rule = rule


class Cancelled(RunnerError):
    """The job was called off, or the lease on it was lost: what was made so far is worth nothing."""

    def __init__(self) -> None:
        super().__init__("cancelled", may_pass=False)


class ModelUnusable(RunnerError):
    """A model can't be loaded, or isn't one for this kind of work."""

    def __init__(self, model: str, rule: str) -> None:
        super().__init__("model-unusable", may_pass=False, detail=f"{model} {rule}")
        self.model = model
        self.rule = rule


class OutOfMemory(RunnerError):
    """The device's memory doesn't suffice just now; a larger one, or an emptier one, may do."""

    def __init__(self, device: str) -> None:
        super().__init__("out-of-memory", may_pass=True, detail=device)
        self.device = device


@dataclass(frozen=True, kw_only=True)
class Field:
    """Declare one input.

    `minimum` and `maximum` bound a number's value and a text's length in characters; both ends are allowed.
    A field without default is left out when it isn't given. `default` is written as it is carried: a decimal as text.
    A `file` is named by its NID; who runs the job puts the bytes at `workdir / "inputs" / <NID>` beforehand.
    """

    name: str
    type: FieldType
    help: str
    required: bool = False
    default: Value | None = None
    minimum: Value | None = None
    maximum: Value | None = None
    multiple_of: int = 1
    choices: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.type not in get_args(FieldType):
            raise ValueError(f"field {self.name}: no type {self.type!r}")
        if self.required and self.default is not None:
            raise ValueError(f"field {self.name}: required, and yet it has a default")
        if self.type == "choice" and not self.choices:
            raise ValueError(f"field {self.name}: a choice without choices")
        if self.type in ("text", "integer", "decimal") and (self.minimum is None or self.maximum is None):
            raise ValueError(f"field {self.name}: {self.type} without bounds")
        if self.default is not None and self.normalise(self.default) != self.default:
            raise ValueError(f"field {self.name}: the default is not in its normal form")

    def normalise(self, value: object) -> Value:
        """Check one value and bring it into the one form that is hashed.

        Raises: BadInput.
        """
        return _NORMALISERS[self.type](self, value)

    def json_schema(self) -> dict[str, Any]:
        """Describe the field in JSON Schema 2020-12, as OpenAPI 3.1 has it."""
        schema = {**_DESCRIBERS[self.type](self), "description": self.help}
        if self.default is not None:
            schema["default"] = self.default
        return schema


@dataclass(frozen=True)
class InputSchema:
    """Hold the inputs that a kind of work takes; whatever else is given is refused."""

    fields: tuple[Field, ...]

    def __post_init__(self) -> None:
        names = [field.name for field in self.fields]
        if len(set(names)) != len(names):
            raise ValueError(f"two fields of one name: {names}")

    def normalise(self, inputs: object) -> dict[str, Value]:
        """Check all inputs, fill in defaults, and give them in the order of the schema.

        Doing so again changes nothing.
        Raises: BadInput, for the first field that breaks its rule.
        """
        if not isinstance(inputs, Mapping):
            raise BadInput("inputs", inputs, "must be an object")
        known = {field.name for field in self.fields}
        for name, value in inputs.items():
            if name not in known:
                raise BadInput(str(name)[:100], value, f"is not known here; known are {', '.join(sorted(known))}")
        normal: dict[str, Value] = {}
        for field in self.fields:
            if field.name in inputs:
                normal[field.name] = field.normalise(inputs[field.name])
            elif field.required:
                raise BadInput(field.name, None, "is required")
            elif field.default is not None:
                normal[field.name] = field.default
        return normal

    def json_schema(self) -> dict[str, Any]:
        """Describe the inputs in JSON Schema 2020-12, as OpenAPI 3.1 has it."""
        return {
            "type": "object",
            "additionalProperties": False,
            "required": [field.name for field in self.fields if field.required],
            "properties": {field.name: field.json_schema() for field in self.fields},
        }


@dataclass(frozen=True)
class ProgressReport:
    """Tell how far a run is: `step` of `steps`, counted from one."""

    step: int
    steps: int
    note: str | None = None


@dataclass(frozen=True)
class Output:
    """Name one file that a run has made, inside its workdir."""

    name: str
    path: Path
    mime: str


@dataclass(frozen=True)
class RunResult:
    """Give what a run has made, and the facts about how. Facts hold text and integers alone: they are hashed."""

    outputs: tuple[Output, ...]
    facts: dict[str, Value]


Report = Callable[[ProgressReport], None]


class Runner(Protocol):
    """Do one kind of work with one model on one device."""

    kind: ClassVar[str]
    schema: ClassVar[InputSchema]

    def setup(self) -> None:
        """Load the model and warm up. Called once, before the first run.

        Raises: ModelUnusable.
        """

    def run(
        self, inputs: Inputs, report: Report, *, workdir: Path, cancelled: Callable[[], bool] = lambda: False
    ) -> RunResult:
        """Do one job: normalised inputs in, files in `workdir` and facts out.

        `report` is called after each step, and `cancelled` asked before the next.
        Raises: RunnerError; Cancelled within one step after `cancelled` says so.
        """


@dataclass(frozen=True)
class RunnerSpec:
    """Say of one kind of work what a caller needs before any model is loaded."""

    kind: str
    title: str
    schema: InputSchema
    make: Callable[[str, str], Runner]
    """Make a runner from a model's name and its path or hub id; nothing is loaded before `setup()`."""


# -- one function for each type of field -----------------------------------------------------------------------------


def _normalise_text(field: Field, value: object) -> str:
    if not isinstance(value, str):
        raise BadInput(field.name, value, "must be text")
    minimum, maximum = int(field.minimum or 0), int(field.maximum or 0)
    # Length first: whatever comes after reads the whole text.
    if not minimum <= len(value) <= maximum:
        raise BadInput(field.name, value, f"must have {minimum} to {maximum} characters, has {len(value)}")
    if any(unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") for character in value):
        raise BadInput(field.name, value, "must not hold control characters, line breaks or lone surrogates")
    if not unicodedata.is_normalized("NFC", value):
        raise BadInput(field.name, value, "must be in Unicode's normal form NFC")
    if minimum > 0 and not value.strip():
        raise BadInput(field.name, value, "must not be blank")
    return value


def _normalise_integer(field: Field, value: object) -> int:
    # bool is an int to Python, and to nobody else.
    if isinstance(value, bool) or not isinstance(value, int):
        raise BadInput(field.name, value, "must be a whole number")
    if not int(field.minimum or 0) <= value <= int(field.maximum or 0):
        raise BadInput(field.name, value, f"must be from {field.minimum} to {field.maximum}")
    if value % field.multiple_of:
        raise BadInput(field.name, value, f"must be a multiple of {field.multiple_of}")
    return value


def _normalise_decimal(field: Field, value: object) -> str:
    number = _decimal(field, value)
    if not Decimal(field.minimum or 0) <= number <= Decimal(field.maximum or 0):
        raise BadInput(field.name, value, f"must be from {field.minimum} to {field.maximum}")
    whole, _, places = f"{number:f}".partition(".")
    if len(places) > MAX_DECIMAL_PLACES:
        raise BadInput(field.name, value, f"must have at most {MAX_DECIMAL_PLACES} decimal places")
    places = places.rstrip("0")
    shortest = f"{whole}.{places}" if places else whole
    return "0" if shortest == "-0" else shortest


def _decimal(field: Field, value: object) -> Decimal:
    """Read a decimal from an int, a Decimal or plain text."""
    if isinstance(value, float):
        raise BadInput(field.name, value, 'must be an exact decimal, such as "7.5", not a binary float')
    if isinstance(value, bool) or not isinstance(value, int | str | Decimal):
        raise BadInput(field.name, value, 'must be a decimal, such as "7.5"')
    if isinstance(value, str) and (len(value) > _DECIMAL_DIGITS or not _DECIMAL.fullmatch(value)):
        raise BadInput(field.name, value, 'must be a decimal in plain notation, such as "7.5"')
    number = Decimal(value)
    # The exponent's bound keeps a Decimal such as 1E+999999 from being spelt out.
    if not number.is_finite() or abs(number.adjusted()) > _DECIMAL_DIGITS:
        raise BadInput(field.name, value, "must be a finite number of reasonable size")
    return number


def _normalise_choice(field: Field, value: object) -> str:
    if not isinstance(value, str) or value not in field.choices:
        raise BadInput(field.name, value, f"must be one of {', '.join(field.choices)}")
    return value


def _normalise_file(field: Field, value: object) -> str:
    if not isinstance(value, str) or not _NID.fullmatch(value):
        raise BadInput(field.name, value, "must be the NID of a stored file (bafkrei…)")
    return value


_NORMALISERS: dict[FieldType, Callable[[Field, object], Value]] = {
    "text": _normalise_text,
    "integer": _normalise_integer,
    "decimal": _normalise_decimal,
    "choice": _normalise_choice,
    "file": _normalise_file,
}


def _describe_integer(field: Field) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "integer", "minimum": field.minimum, "maximum": field.maximum}
    return schema if field.multiple_of == 1 else {**schema, "multipleOf": field.multiple_of}


def _describe_decimal(field: Field) -> dict[str, Any]:
    pattern = rf"^-?(0|[1-9][0-9]*)(\.[0-9]{{1,{MAX_DECIMAL_PLACES}}})?$"
    return {
        "oneOf": [
            {"type": "string", "pattern": pattern},
            {"type": "integer", "minimum": int(field.minimum or 0), "maximum": int(field.maximum or 0)},
        ],
        "x-minimum": str(field.minimum),
        "x-maximum": str(field.maximum),
    }


_DESCRIBERS: dict[FieldType, Callable[[Field], dict[str, Any]]] = {
    "text": lambda field: {"type": "string", "minLength": field.minimum, "maxLength": field.maximum},
    "integer": _describe_integer,
    "decimal": _describe_decimal,
    "choice": lambda field: {"type": "string", "enum": list(field.choices)},
    "file": lambda _: {"type": "string", "pattern": f"^{_NID.pattern}$"},
}
