"""Write and read the exact texts that clients and providers sign. Pure.

A claim is canonical JSON as text: signed as it stands, stored as it stands, never re-serialised.
Each names the job by its NID, so that it fits one job of one hub and no other.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypedDict

from jobs.client.shape import find_fault
from receipts.canonical import NotCanonical, b64url, decode_canonical, encode, read_utc
from receipts.events import (
    AMOUNT,
    DIGEST,
    FAILURE,
    JOB_ID,
    KEY_ID,
    METER,
    NAME,
    NATURAL,
    NID,
    SALT,
    SHA256,
    TIME,
    WORD,
)

REQUEST: Final = "JobRequest"
STARTED: Final = "WorkStarted"
PROGRESS: Final = "WorkProgress"
COMPLETED: Final = "WorkCompleted"
FAILED: Final = "WorkFailed"
PROMISE: Final = "Promise"

_FIELDS: Final[dict[str, tuple[frozenset[str], frozenset[str]]]] = {
    REQUEST: (frozenset({"kind", "model", "inputs", "hub", "nonce", "at"}), frozenset({"max_price"})),
    STARTED: (
        frozenset(
            {"job_id", "job_nid", "attempt", "fencing", "provider", "model", "model_digest", "device", "runner", "at"}
        ),
        frozenset(),
    ),
    PROGRESS: (frozenset({"job_id", "job_nid", "attempt", "fencing", "step", "steps", "at"}), frozenset()),
    COMPLETED: (
        frozenset(
            {
                "job_id",
                "job_nid",
                "attempt",
                "fencing",
                "provider",
                "outputs",
                "facts",
                "meter",
                "started_at",
                "finished_at",
            }
        ),
        frozenset(),
    ),
    FAILED: (frozenset({"job_id", "job_nid", "attempt", "fencing", "class", "meter", "at"}), frozenset({"detail"})),
    PROMISE: (frozenset({"log", "nid", "by", "at"}), frozenset()),
}

_TEXT: Final = {"type": "string", "minLength": 1, "maxLength": 300}
_ABOUT: Final = {"job_id": JOB_ID, "job_nid": NID, "attempt": NATURAL, "fencing": NATURAL}
_OUTPUT: Final = {
    "type": "object",
    "properties": {"name": WORD, "sha256": SHA256, "size": NATURAL, "mime": _TEXT},
    "required": ["name", "sha256", "size", "mime"],
    "additionalProperties": False,
}
# What each field of a claim looks like.
SHAPES: Final[dict[str, dict[str, Any]]] = {
    REQUEST: {
        "kind": WORD,
        "model": NAME,
        "inputs": {"type": "object", "propertyNames": WORD, "additionalProperties": DIGEST, "maxProperties": 32},
        "hub": _TEXT,
        "nonce": SALT,
        "at": TIME,
        "max_price": AMOUNT,
    },
    STARTED: _ABOUT
    | {"provider": KEY_ID, "model": NAME, "model_digest": SHA256, "device": _TEXT, "runner": _TEXT, "at": TIME},
    PROGRESS: _ABOUT | {"step": NATURAL, "steps": NATURAL, "at": TIME},
    COMPLETED: _ABOUT
    | {
        "provider": KEY_ID,
        "outputs": {"type": "array", "items": _OUTPUT, "minItems": 1, "maxItems": 64},
        "facts": {"type": "object", "propertyNames": WORD, "maxProperties": 64},
        "meter": METER,
        "started_at": TIME,
        "finished_at": TIME,
    },
    FAILED: _ABOUT | {"class": FAILURE, "meter": METER, "detail": DIGEST, "at": TIME},
    PROMISE: {"log": _TEXT, "nid": NID, "at": TIME, "by": TIME},
}
MOMENTS: Final = frozenset({"at", "by", "started_at", "finished_at"})


class ClaimBroken(ValueError):
    """A claim is not the text it should be: `where` and `rule` say how."""

    def __init__(self, where: str, rule: str) -> None:
        super().__init__(f"{where}: {rule}")
        self.where = where
        self.rule = rule


class OutputClaim(TypedDict):
    """One file that a provider made, by the digest of its unsigned bytes."""

    name: str
    sha256: str
    size: int
    mime: str


class Measurement(TypedDict, total=False):
    """One figure of the meter: `value` is absent where `quality` is `unavailable`."""

    value: int
    quality: str
    source: str


def claim_text(type_: str, **fields: Any) -> str:
    """Write the claim of a type. Absent optional fields are left out, never null.

    Raises: ClaimBroken, for a field too many or too few; NotCanonical, for a value that can't be hashed.
    """
    given = {name: value for name, value in fields.items() if value is not None}
    _check_fields(type_, given)
    return encode({"v": 1, "type": type_, **given}).decode()


def read_claim(text: str, type_: str) -> dict[str, Any]:
    """Read a claim of the type that is due, each field in its shape: what the hub takes in, every verifier takes.

    Raises: ClaimBroken, for another type, version, field or shape; NotCanonical, for text in another form.
    """
    told = parse_claim(text, type_)
    if fault := find_fault({"type": "object", "properties": SHAPES[type_], "additionalProperties": False}, told):
        raise ClaimBroken(fault.where, fault.rule)
    for name in sorted(MOMENTS & told.keys()):
        try:
            read_utc(told[name])
        except NotCanonical as error:
            raise ClaimBroken(name, error.rule) from None
    return told


def parse_claim(text: str, type_: str) -> dict[str, Any]:
    """Read a claim of the type that is due; what its fields hold is not looked at.

    Raises: ClaimBroken, for another type or version or other fields; NotCanonical, for text in another form.
    """
    value = decode_canonical(text.encode("utf-8", "surrogatepass"))
    if not isinstance(value, dict) or value.get("type") != type_:
        raise ClaimBroken("type", f"a {type_} claim is due")
    if value.get("v") is True or value.get("v") != 1:  # to Python, true equals 1
        raise ClaimBroken("v", "version 1 is due")
    fields: dict[str, Any] = {name: item for name, item in value.items() if name not in ("v", "type")}
    _check_fields(type_, fields)
    return fields


def inputs_digest(inputs: Mapping[str, str]) -> str:
    """Name all inputs of a job by one digest, from their salted digests: the prompt's own where there is one.

    Source: the `prompt_hash` of AITBC's stage-2 receipt.
    """
    if "prompt" in inputs:
        return inputs["prompt"]
    return b64url(hashlib.sha256(encode(dict(inputs))).digest())


def started_claim(**fields: Any) -> str:
    """Write a provider's word that it started: job, attempt, fencing number, weights, device, time."""
    return claim_text(STARTED, **fields)


def completed_claim(
    *, outputs: Sequence[OutputClaim], meter: Mapping[str, Measurement], facts: Mapping[str, Any], **fields: Any
) -> str:
    """Write a provider's word on what it made, how, and what it measured."""
    return claim_text(COMPLETED, outputs=list(outputs), meter=dict(meter), facts=dict(facts), **fields)


def _check_fields(type_: str, given: Mapping[str, Any]) -> None:
    required, optional = _FIELDS[type_]
    if missing := required - given.keys():
        raise ClaimBroken(min(missing), f"missing in a {type_} claim")
    if extra := given.keys() - required - optional:
        raise ClaimBroken(min(extra), f"no field of a {type_} claim")
