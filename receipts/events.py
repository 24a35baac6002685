"""Name every event that becomes a receipt, and say by JSON Schema what its receipt holds. Pure.

Schemas only ever grow: a field is added as optional, a meaning never changes. No field holds free
text from outside: names, prompts and messages appear as salted digests alone (`receipts.canonical.field_digest`).

Source: JSON Schema 2020-12.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cache
from typing import Any, Final

from receipts.canonical import MAX_SAFE_INTEGER

Schema = dict[str, Any]


class About(Enum):
    """Whom a receipt is about, which decides what its envelope names."""

    JOB = "job"  # tenant, jobId, attempt, origin, and the job's NID from the second receipt on
    PUBLIC = "public"  # what the public must check: neither tenant nor job
    HOUSE = "house"  # the house's own affairs: a subject, no job


def _text(pattern: str) -> Schema:
    # In Python `$` also matches before a final newline, in ECMAScript it doesn't: what follows makes them agree.
    return {"type": "string", "pattern": f"^{pattern}$(?!\\n)"}


def _one_of(*words: str) -> Schema:
    return {"enum": list(words)}


def _list(items: Schema, most: int = 16) -> Schema:
    return {"type": "array", "items": items, "minItems": 1, "maxItems": most}


def _object(required: Mapping[str, Schema], optional: Mapping[str, Schema] | None = None) -> Schema:
    return {
        "type": "object",
        "properties": {**required, **(optional or {})},
        "required": list(required),
        "additionalProperties": False,
    }


NATURAL: Final = {"type": "integer", "minimum": 0, "maximum": MAX_SAFE_INTEGER}
WHOLE: Final = {"type": "integer", "minimum": -MAX_SAFE_INTEGER, "maximum": MAX_SAFE_INTEGER}
FLAG: Final = {"type": "boolean"}
AMOUNT: Final = _text(r"(0|[1-9][0-9]{0,77})")  # an integer of the token's smallest unit, as decimal text
NID: Final = _text("bafkrei[a-z2-7]{52}")
SHA256: Final = _text("[0-9a-f]{64}")
HASH32: Final = _text("0x[0-9a-f]{64}")
ADDRESS: Final = _text("0x[0-9a-f]{40}")
DIGEST: Final = _text("[A-Za-z0-9_-]{43}")  # base64url of 32 bytes
SALT: Final = _text("[A-Za-z0-9_-]{22}")  # base64url of 16 bytes
KEY_ID: Final = _text("([A-Za-z0-9_-]{43}|0x[0-9a-f]{40})")
TIME: Final = _text("[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}[.][0-9]{3}Z")
WORD: Final = _text("[a-z0-9][a-z0-9_.-]{0,79}")
NAME: Final = _text("[A-Za-z0-9][A-Za-z0-9 _./:@+-]{0,199}")  # of models, chosen by operators, never by clients
CLAIM: Final = {"type": "string", "minLength": 2, "maxLength": 12_000}
SIGNATURE: Final = _object(
    {"alg": _one_of("Ed25519", "EIP-712", "ES256"), "key_id": KEY_ID, "sig": _text("[A-Za-z0-9_-]{64,200}")}
)
# Where contract wallets sign too: what such a wallet takes for a signature may be several in a row.
ATTESTATION: Final = _object(
    {
        "alg": _one_of("Ed25519", "EIP-712", "ES256", "ERC-1271"),
        "key_id": KEY_ID,
        "sig": _text("[A-Za-z0-9_-]{64,2000}"),
    }
)
# On a key: by Ed25519 keys, or by secp256k1 keys as their wallets sign messages.
KEY_SIGNATURE: Final = _object(
    {"alg": _one_of("Ed25519", "EIP-712", "ES256", "EIP-191"), "key_id": KEY_ID, "sig": _text("[A-Za-z0-9_-]{64,200}")}
)
MEASUREMENT: Final = _object(
    {"quality": _one_of("measured", "estimated", "unavailable"), "source": WORD}, {"value": NATURAL}
)
METER: Final = {
    "type": "object",
    "propertyNames": WORD,
    "additionalProperties": MEASUREMENT,
    "maxProperties": 16,
}
SIGNED: Final[Schema] = {"claim": CLAIM, "sig": SIGNATURE}
BILLED: Final = _one_of("nothing", "partial", "full")
FAILURE: Final = (
    WORD  # the class of a failure: bad-input, runner, out-of-memory, model-unusable, lease-lost, expired, poison …
)
JOB_ID: Final = _text("job_[0-9a-hjkmnp-tv-z]{26}")
ACTOR: Final = _text(
    "(client|provider|hub|attester|reporter|operator|api-key|root|log|sender|witness):[A-Za-z0-9_.-]{1,66}"
)
UNIT_TYPE: Final = _one_of("cpu_ms", "gpu_ms")
SHARES: Final = _list(_object({"provider": ADDRESS, "units": NATURAL, "amount": AMOUNT}), 64)


@dataclass(frozen=True, slots=True)
class Event:
    """One type of event: whom it is about and the schema of its `data`."""

    about: About
    data: Schema
    says: str


EVENTS: Final[dict[str, Event]] = {
    "JobSubmitted": Event(
        About.JOB,
        _object(
            {
                "kind": WORD,
                "model": NAME,
                "inputs": {
                    "type": "object",
                    "propertyNames": WORD,
                    "additionalProperties": DIGEST,
                    "maxProperties": 32,
                },
                "priority": WHOLE,
                "expires_at": TIME,
            },
            {"max_price": AMOUNT, **SIGNED},
        ),
        "A client asked for work. `inputs` maps each input's name to its salted digest; `claim` is what the client "
        "signed, absent where the hub alone says so.",
    ),
    "JobScheduled": Event(
        About.JOB,
        _object(
            {
                "provider": KEY_ID,
                "fencing": NATURAL,
                "lease_until": TIME,
                "unit_type": UNIT_TYPE,
                "price": AMOUNT,
                "score_ppm": WHOLE,
                "asks": NATURAL,
            }
        ),
        "The auction gave the job to a provider, under a lease.",
    ),
    "JobStarted": Event(
        About.JOB,
        _object({"fencing": NATURAL, **SIGNED}),
        "The provider says that it started, with which weights, where.",
    ),
    "JobProgressUpdate": Event(
        About.JOB,
        _object({"fencing": NATURAL, "step": NATURAL, "steps": NATURAL, **SIGNED}),
        "The provider says how far it is.",
    ),
    "JobCompleted": Event(
        About.JOB,
        _object({"fencing": NATURAL, **SIGNED}),
        "The provider says what it made (digests of the unsigned outputs) and what it measured.",
    ),
    "JobFailed": Event(
        About.JOB,
        _object(
            {"class": FAILURE, "billed": BILLED, "attempts": NATURAL},
            {"fencing": NATURAL, "detail": DIGEST, "last_heartbeat": TIME, "meter": METER, **SIGNED},
        ),
        "The job will not be tried again. `detail` is the salted digest of the message.",
    ),
    "JobCancelled": Event(
        About.JOB,
        _object(
            {"by": _one_of("client", "operator"), "billed": BILLED},
            {"fencing": NATURAL, "last_heartbeat": TIME, "meter": METER, **SIGNED},
        ),
        "The job was called off.",
    ),
    "JobRequeued": Event(
        About.JOB,
        _object(
            {
                "cause": _one_of("lease-lost", "not-started", "attempt-failed"),
                "fencing": NATURAL,
                "attempts_left": NATURAL,
            },
            {"class": FAILURE, "detail": DIGEST, "last_heartbeat": TIME, "meter": METER, **SIGNED},
        ),
        "An attempt ended without a result and the job is offered again.",
    ),
    "CredentialIssued": Event(
        About.JOB,
        _object(
            {
                "name": WORD,
                "unsigned_sha256": SHA256,
                "signed_sha256": SHA256,
                "size": NATURAL,
                "mime": _text("[a-z]+/[a-z0-9.+-]{1,80}"),
                "embedded": FLAG,
                "manifest_label": _text("[A-Za-z0-9:._-]{1,200}"),
                "certificate_sha256": SHA256,
            },
            {"manifest_sha256": SHA256},
        ),
        "The output left the house with C2PA Content Credentials.",
    ),
    "UsageReceipt": Event(
        About.JOB,
        _object({"receipt_hash": HASH32, **SIGNED}),
        "The provider claims how many units it served; `receipt_hash` is keccak-256 of the claim.",
    ),
    "UsageAttested": Event(
        About.PUBLIC,
        _object(
            {
                "receipt_hash": HASH32,
                "provider": ADDRESS,
                "units": NATURAL,
                "unit_type": UNIT_TYPE,
                "price": AMOUNT,
                "amount": AMOUNT,
                "acceptance": _one_of("signed", "by-timeout", "none"),
                "epoch": _text("[0-9]{4}-[0-9]{2}-[0-9]{2}"),
                "chain_id": NATURAL,
                "minter": ADDRESS,
                "deadline": NATURAL,
                "attestations": _list(ATTESTATION),
            },
            {"shares": SHARES},
        ),
        "The hub attests a usage claim by EIP-712 signatures that the minter checks.",
    ),
    "TokensMinted": Event(
        About.PUBLIC,
        _object(
            {
                "receipt_hash": HASH32,
                "provider": ADDRESS,
                "amount": AMOUNT,
                "chain_id": NATURAL,
                "token": ADDRESS,
                "minter": ADDRESS,
                "tx_hash": HASH32,
                "block_number": NATURAL,
                "block_hash": HASH32,
            },
            {"shares": SHARES},
        ),
        "The chain minted the attested amount.",
    ),
    "ReceiptErased": Event(
        About.HOUSE,
        _object({"erased": NID, "reason": _one_of("law", "policy", "owner")}),
        "A receipt's bytes were erased; its NID stays in the log.",
    ),
    "ChainReversed": Event(
        About.HOUSE,
        _object(
            {"tx_hash": HASH32, "chain_id": NATURAL, "block_number": NATURAL, "block_hash": HASH32, "purpose": WORD}
        ),
        "A block that was held to be final went away; its transaction is sent again.",
    ),
    "ProviderRegistered": Event(
        About.HOUSE,
        _object(
            {"provider": KEY_ID, "payout": ADDRESS, "kinds": _list(WORD), "unit_type": UNIT_TYPE, "price": AMOUNT},
            SIGNED,
        ),
        "A provider joined with its key, price and the address that its tokens go to.",
    ),
    "ReputationChanged": Event(
        About.HOUSE,
        _object({"provider": KEY_ID, "before_ppm": NATURAL, "after_ppm": NATURAL}, {"because": NID}),
        "A provider's reputation moved.",
    ),
    "AuctionSettled": Event(
        About.PUBLIC,
        _object({"auction": WORD, "asks": NATURAL, "bids": NATURAL, "matches": NATURAL, "rule": WORD}),
        "An auction round ended.",
    ),
    "VerdictReached": Event(
        About.HOUSE,
        _object({"check": WORD, "about": NID, "verdict": _one_of("holds", "broken", "unknown")}, {"detail": DIGEST}),
        "A check of a provider's work came to a verdict.",
    ),
    "KeyRotated": Event(
        About.PUBLIC,
        _object(
            {
                "role": _one_of(
                    "root", "log", "hub", "attester", "provider", "reporter", "client", "c2pa", "sender", "witness"
                ),
                "act": _one_of("added", "rotated", "revoked"),
                "key_id": KEY_ID,
                "from_leaf": NATURAL,
                "claim": CLAIM,
                "signatures": _list(KEY_SIGNATURE, 3),
            },
            {"replaces": KEY_ID, "until_leaf": NATURAL, "reason": WORD},
        ),
        "A key was added, rotated or revoked, signed by the root or by both keys. `from_leaf` is the first leaf that "
        "an added key counts for and a revoked one no longer does; `replaces` ends at `until_leaf`, else there too.",
    ),
    "Census": Event(
        About.PUBLIC,
        _object(
            {
                "epoch": TIME,
                "jobs": NATURAL,
                "receipts": NATURAL,
                "mints": NATURAL,
                "amount": AMOUNT,
                "log_size": NATURAL,
            }
        ),
        "How many jobs, receipts and mints an epoch had: what is left out no longer adds up.",
    ),
    "AdminAction": Event(
        About.HOUSE,
        _object({"action": WORD, "by": DIGEST, "count": NATURAL}, {"about": NID, "reason": DIGEST}),
        "A person of the house acted; `by` is a salted digest of who.",
    ),
}

_ALWAYS: Final[Schema] = {
    "v": {"const": 1},
    "seq": {"type": "integer", "minimum": 1, "maximum": MAX_SAFE_INTEGER},
    "occurredAt": TIME,
    "actor": ACTOR,
    "idempotencyKey": _text("[A-Za-z0-9_:.-]{1,160}"),
    "salt": SALT,
}


@cache
def schema_of(event_type: str) -> Schema:
    """Give the JSON Schema of a whole receipt of this type. Raises: KeyError, for a type that is not ours."""
    event = EVENTS[event_type]
    required: Schema = {**_ALWAYS, "eventType": {"const": event_type}, "data": event.data}
    optional: Schema = {"prev": NID}
    if event.about is About.JOB:
        required |= {
            "tenant": WORD,
            "jobId": JOB_ID,
            "attempt": NATURAL,
            "origin": _one_of("hosted", "reported", "simulated"),
        }
        if event_type != "JobSubmitted":
            required |= {"nid": NID, "prev": NID}
            del optional["prev"]
        else:
            del optional["prev"]
    else:
        required["subject"] = _text("[a-z0-9][A-Za-z0-9_:.-]{0,79}")
    schema = _object(required, optional)
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = event_type
    schema["description"] = event.says
    return schema
