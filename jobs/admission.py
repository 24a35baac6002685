"""Let a request in: hold its signed claim against what it asks, and have the database say whether there is room.

Nothing is written here; `lifecycle.submit` does that, in the statement that asks whether the door is `OPEN`.
"""

import datetime as dt
import hashlib
import json
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from django.conf import settings
from django.db import connection

from jobs.claims import PROMISE, REQUEST, ClaimBroken, claim_text, read_claim
from jobs.errors import BadRequest
from receipts.canonical import NotCanonical, encode, field_digest, unb64url, utc
from receipts.keys import Ed25519Signer, SignatureBroken, ed25519_signer, sign_text, verify_text

_CROCKFORD: Final = "0123456789abcdefghjkmnpqrstvwxyz"


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRequest:
    """What a client asks for, its inputs in their normal form. `salts`, `claim` and `signature` come together."""

    kind: str
    model: str
    inputs: dict[str, Any]
    salts: dict[str, str] | None = None
    claim: str | None = None
    signature: dict[str, Any] | None = None
    max_price: int | None = None
    priority: int = 0
    ttl_s: int | None = None


# A job is let in where this holds: no other request with its key, room in the queue, a signer that is known.
OPEN: Final = """
(%(key)s::text IS NULL OR (pg_try_advisory_xact_lock(%(lock)s::bigint) AND NOT EXISTS (
  SELECT FROM jobs_job WHERE tenant_id = %(tenant)s AND idempotency_key = %(key)s)))
AND (SELECT count(*) FROM (SELECT FROM jobs_job WHERE tenant_id = %(tenant)s
  AND state IN ('submitted', 'scheduled', 'running') LIMIT %(limit)s) AS unfinished) < %(limit)s
AND (%(signer)s::text IS NULL OR EXISTS (
  SELECT FROM receipts_publickey WHERE role = 'client' AND key_id = %(signer)s
  AND tenant_id = %(tenant)s AND until_leaf IS NULL))
"""


def door(tenant_id: str, idempotency_key: str | None, signer: str | None) -> dict[str, Any]:
    """Give what `OPEN` asks for. Two requests of a tenant with one key meet at the lock."""
    lock = None
    if idempotency_key is not None:
        digest = hashlib.sha256(f"{tenant_id}\0{idempotency_key}".encode()).digest()
        lock = int.from_bytes(digest[:8], signed=True)
    return {
        "key": idempotency_key,
        "lock": lock,
        "tenant": tenant_id,
        "limit": settings.QUEUE_LIMIT,
        "signer": signer,
    }


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why the door was not open: how long the queue is, who asked first with this key, whether the signer is known."""

    queued: int
    fingerprint: str | None
    answer: dict[str, Any]
    signer_known: bool


def why_not(tenant_id: str, idempotency_key: str | None, signer: str | None) -> Refusal:
    """Ask in one query why a job was not let in."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT (SELECT count(*) FROM (SELECT 1 FROM jobs_job WHERE tenant_id = %(tenant)s"
            "   AND state IN ('submitted', 'scheduled', 'running') LIMIT %(limit)s) AS unfinished),"
            " first.fingerprint, first.answer,"
            " EXISTS (SELECT 1 FROM receipts_publickey WHERE role = 'client' AND key_id = %(signer)s"
            "   AND tenant_id = %(tenant)s AND until_leaf IS NULL)"
            " FROM (SELECT 1) AS one LEFT JOIN jobs_job AS first"
            "   ON first.tenant_id = %(tenant)s AND first.idempotency_key = %(key)s",
            door(tenant_id, idempotency_key, signer),
        )
        queued, fingerprint, answer, known = cursor.fetchone()
    if isinstance(answer, str):  # Django's own connections leave JSON as text
        answer = json.loads(answer)
    return Refusal(queued, fingerprint, answer or {}, known)


def input_digests(inputs: Mapping[str, Any], salts: Mapping[str, str]) -> dict[str, str]:
    if set(inputs) != set(salts):
        raise BadRequest("salts", sorted(salts), f"must have one salt for each of {', '.join(sorted(inputs))}")
    digests: dict[str, str] = {}
    for name, value in inputs.items():
        try:
            digests[name] = field_digest(name, value, unb64url(salts[name], size=16))
        except NotCanonical as error:
            raise BadRequest(f"salts.{name}", salts[name], error.rule) from None
    return digests


def check_request_claim(request: JobRequest, digests: Mapping[str, str]) -> str | None:
    """Check a client's signed request against what it sent; give the key id, None when unsigned."""
    parts = (request.claim, request.signature, request.salts)
    if all(part is None for part in parts):
        return None
    if any(part is None for part in parts):
        raise BadRequest("claim", request.claim, "comes together with sig and salts, or not at all")
    assert request.claim is not None and request.signature is not None
    try:
        key_id = verify_text(request.claim, request.signature)
        told = read_claim(request.claim, REQUEST)
    except SignatureBroken as error:
        raise BadRequest("sig", request.signature.get("key_id"), str(error)) from None
    except (ClaimBroken, NotCanonical) as error:
        raise BadRequest(f"claim.{error.where}", "", error.rule) from None
    due: dict[str, Any] = {
        "kind": request.kind,
        "model": request.model,
        "inputs": dict(digests),
        "hub": settings.LOG_ORIGIN,
        "max_price": None if request.max_price is None else str(request.max_price),
    }
    for name, value in due.items():
        if told.get(name) != value:
            raise BadRequest(f"claim.{name}", told.get(name), f"must say what the request says: {value!r}")
    return key_id


def make_promise(nid: str, now: dt.datetime) -> dict[str, Any]:
    claim = claim_text(
        PROMISE,
        log=settings.LOG_ORIGIN,
        nid=nid,
        at=utc(now),
        by=utc(now + dt.timedelta(seconds=settings.PROMISE_SECONDS)),
    )
    return {"claim": claim, "sig": sign_text(hub_signer(), claim)}


def new_job_id() -> str:
    """Make a job id: 48 bits of milliseconds and 80 random bits, in Crockford's base32, so that ids sort by time."""
    number = (time.time_ns() // 1_000_000 << 80) | secrets.randbits(80)
    return "job_" + "".join(_CROCKFORD[(number >> shift) & 31] for shift in range(125, -1, -5))


def hub_key_id() -> str:
    """The id of the key that the hub gives promises with."""
    return hub_signer().key_id


@cache
def hub_signer() -> Ed25519Signer:
    return ed25519_signer("hub", settings.KEYS_DIR)


def fingerprint_of(body: Mapping[str, Any]) -> str:
    """Name a request's content, whatever its spelling: SHA-256 of its canonical bytes."""
    return hashlib.sha256(encode(dict(body))).hexdigest()
