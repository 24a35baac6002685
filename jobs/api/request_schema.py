"""Describe the request for a job in JSON Schema 2020-12: one shape for each kind of work."""

from typing import Any, Final

from django.conf import settings

from jobs.api.requests import AMOUNT, MAX_CLAIM, MAX_PRIORITY, MAX_TTL_S, MIN_TTL_S
from jobs.runners import RUNNERS
from jobs.runners.base import RunnerSpec


def _request_of(spec: RunnerSpec) -> dict[str, Any]:
    """Describe the request for one kind of work."""
    return {
        "type": "object",
        "title": spec.title,
        "additionalProperties": False,
        "required": ["kind", "inputs"],
        "properties": {
            "kind": {"const": spec.kind},
            "model": {
                "type": "string",
                "default": settings.DEFAULT_MODEL,
                "description": "A model that this house offers.",
            },
            "inputs": spec.schema.json_schema(),
            "max_price": {
                "type": "string",
                "pattern": f"^{AMOUNT}$",
                "description": "At most so many smallest token units for each unit served.",
            },
            "priority": {"type": "integer", "minimum": 0, "maximum": MAX_PRIORITY, "default": 0},
            "ttl_s": {
                "type": "integer",
                "minimum": MIN_TTL_S,
                "maximum": MAX_TTL_S,
                "description": "After so many seconds it fails if it has not started.",
            },
            "claim": {
                "type": "string",
                "maxLength": MAX_CLAIM,
                "description": "The JobRequest text that you sign; together with `sig` and `salts`, or not at all.",
            },
            "sig": {
                "type": "object",
                "additionalProperties": False,
                "required": ["alg", "key_id", "sig"],
                "properties": {
                    "alg": {"const": "Ed25519"},
                    "key_id": {"type": "string", "description": "base64url of the public key"},
                    "sig": {"type": "string", "description": "base64url of the signature"},
                },
            },
            "salts": {
                "type": "object",
                "additionalProperties": {"type": "string", "pattern": "^[A-Za-z0-9_-]{22}$"},
                "description": "A 16-byte salt for each input's digest, base64url.",
            },
        },
    }


JOB_REQUEST: Final[dict[str, Any]] = {"oneOf": [_request_of(spec) for spec in RUNNERS.values()]}
