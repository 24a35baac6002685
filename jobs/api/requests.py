"""Read what a client asks for: every field known, of its type, within its bounds, or refused by name. Asks nobody."""

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from django.conf import settings

from jobs.admission import JobRequest
from jobs.errors import BadRequest
from jobs.runners import runner_for
from jobs.runners.base import BadInput
from jobs.runners.catalogue import reference_of

MAX_CLAIM: Final = 12_000
MAX_PRIORITY: Final = 100
MIN_TTL_S: Final = 10
MAX_TTL_S: Final = 30 * 86_400
AMOUNT: Final = r"(0|[1-9][0-9]{0,77})"
_SALT: Final = re.compile(r"[A-Za-z0-9_-]{22}")
_SIGNATURE_FIELDS: Final = ("alg", "key_id", "sig")
_IDEMPOTENCY_KEY: Final = re.compile(r"[!-~]{1,120}")


def read_job_request(body: Mapping[str, Any]) -> JobRequest:
    """Read the body of a new job; its inputs come out in their normal form.

    Raises: BadRequest, for the first field that breaks its rule.
    """
    for name in body:
        if name not in _READERS and name not in ("kind", "model", "inputs"):
            raise BadRequest(name[:80], body[name], f"is not known here; known are {', '.join(sorted(FIELDS))}")
    try:
        kind, model = _given(body, "kind"), body.get("model", settings.DEFAULT_MODEL)
        runner = runner_for(kind)
        reference_of(model)
    except BadInput as error:
        raise BadRequest(error.field, error.value, error.rule) from None
    try:
        inputs = runner.schema.normalise(_given(body, "inputs"))
    except BadInput as error:
        field = error.field if error.field == "inputs" else f"inputs.{error.field}"
        raise BadRequest(field, error.value, error.rule) from None
    others = {name: _READERS[name](name, value) for name, value in body.items() if name in _READERS}
    signature = others.pop("sig", None)
    return JobRequest(kind=kind, model=model, inputs=dict(inputs), signature=signature, **others)


def read_idempotency_key(header: str | None) -> str | None:
    """Read the Idempotency-Key. Raises: BadRequest."""
    if header is not None and _IDEMPOTENCY_KEY.fullmatch(header) is None:
        raise BadRequest("Idempotency-Key", header, "must be 1 to 120 visible ASCII characters")
    return header


def _given(body: Mapping[str, Any], name: str) -> Any:
    if name not in body:
        raise BadRequest(name, None, "is required")
    return body[name]


def _integer(low: int, high: int) -> Callable[[str, Any], int]:
    def read(name: str, value: Any) -> int:
        # bool is an int to Python, and to nobody else.
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise BadRequest(name, value, f"must be a whole number from {low} to {high}")
        return value

    return read


def _amount(name: str, value: Any) -> int:
    if not isinstance(value, str) or re.fullmatch(AMOUNT, value) is None:
        raise BadRequest(name, value, "must be decimal text: whole smallest token units for each unit served")
    return int(value)


def _claim(name: str, value: Any) -> str:
    if not isinstance(value, str) or not 2 <= len(value) <= MAX_CLAIM:
        raise BadRequest(name, value, f"must be text of 2 to {MAX_CLAIM} characters")
    return value


def _signature(name: str, value: Any) -> dict[str, str]:
    if (
        not isinstance(value, dict)
        or set(value) != set(_SIGNATURE_FIELDS)
        or not all(isinstance(part, str) and len(part) <= 200 for part in value.values())
    ):
        raise BadRequest(name, value, f"must be an object of the texts {', '.join(_SIGNATURE_FIELDS)}")
    return value


def _salts(name: str, value: Any) -> dict[str, str]:
    if not isinstance(value, dict):
        raise BadRequest(name, value, "must be an object: input name to salt")
    for field, salt in value.items():
        if not isinstance(salt, str) or _SALT.fullmatch(salt) is None:
            raise BadRequest(f"{name}.{field[:80]}", salt, "must be 16 bytes as base64url, 22 characters")
    return value


_READERS: Final[dict[str, Callable[[str, Any], Any]]] = {
    "max_price": _amount,
    "priority": _integer(0, MAX_PRIORITY),
    "ttl_s": _integer(MIN_TTL_S, MAX_TTL_S),
    "claim": _claim,
    "sig": _signature,
    "salts": _salts,
}
FIELDS: Final = ("kind", "model", "inputs", *_READERS)
