"""One receipt of each event type, as the house writes it, with fixed keys, salts and times.

Ada asks for a red circle, Bo's provider draws it. Run as a program, this writes `tests/vectors/receipts/`:
those files change only when the receipt's format does, and a change of format is a decision.
"""

import hashlib
from pathlib import Path
from typing import Any

from jobs import claims
from minting.eip712 import Domain, MintAuthorization, sign_authorization
from minting.usage import UsageClaim, receipt_hash, usage_text
from receipts.canonical import b64url, encode, field_digest, nid
from receipts.events import EVENTS, About
from receipts.keys import Ed25519Signer, Secp256k1Signer, Signature, sign_text
from receipts.record import idempotency_key

FOLDER = Path(__file__).parent.parent / "vectors" / "receipts"
ADA = Ed25519Signer(hashlib.sha256(b"Ada, client").digest())
BO = Ed25519Signer(hashlib.sha256(b"Bo, provider").digest())
HUB = Ed25519Signer(hashlib.sha256(b"hub").digest())
ROOT = Ed25519Signer(hashlib.sha256(b"root").digest())
ATTESTER = Secp256k1Signer(hashlib.sha256(b"attester").digest())
SENDER = Secp256k1Signer(hashlib.sha256(b"sender").digest())
PAYOUT = "0x" + "b0" * 20
TOKEN, MINTER = "0x" + "70" * 20, "0x" + "71" * 20
JOB = "job_01kax3m8q2v7n4w9s5t6r1z0y8"
ORIGIN = "tallystick-5f2c8e1a9b7d4036"
TX_HASH, BLOCK_HASH = "0x" + "7a" * 32, "0x" + "8b" * 32
UNSIGNED, SIGNED = hashlib.sha256(b"picture").hexdigest(), hashlib.sha256(b"signed picture").hexdigest()
CERTIFICATE = hashlib.sha256(b"certificate").hexdigest()
METER = {
    "cpu_ms": {"value": 1830, "quality": "measured", "source": "process-clock"},
    "wall_ms": {"value": 1902, "quality": "measured", "source": "monotonic-clock"},
    "gpu_ms": {"quality": "unavailable", "source": "no-cuda-device"},
}


def salt(what: str) -> bytes:
    """A salt that is the same in every run; the house draws its salts at random."""
    return hashlib.sha256(b"salt of " + what.encode()).digest()[:16]


def moment(second: int) -> str:
    return f"2026-11-21T07:00:{second:02d}.000Z"


def signed(signer: Ed25519Signer, text: str) -> dict[str, Any]:
    return {"claim": text, "sig": sign_text(signer, text)}


INPUTS = {"prompt": "a red circle", "steps": 20, "seed": 7}
DIGESTS = {name: field_digest(name, value, salt(name)) for name, value in INPUTS.items()}
REQUEST = claims.claim_text(
    claims.REQUEST,
    kind="text-to-image",
    model="tiny-shapes",
    inputs=DIGESTS,
    hub=ORIGIN,
    nonce=b64url(salt("nonce")),
    at=moment(1),
    max_price="2000000000000000",
)


def receipt(event_type: str, data: dict[str, Any], *, seq: int = 1, prev: str | None = None, **rest: Any) -> bytes:
    """Write a receipt's canonical bytes around its data."""
    event = EVENTS[event_type]
    subject = rest.pop("subject", JOB)
    attempt = rest.pop("attempt", 0 if event_type == "JobSubmitted" else 1)
    body: dict[str, Any] = {
        "v": 1,
        "eventType": event_type,
        "seq": seq,
        "occurredAt": moment(seq),
        "actor": rest.pop("actor", f"hub:{HUB.key_id}"),
        "idempotencyKey": idempotency_key(event_type, subject, attempt, rest.pop("n", 0), event.about),
        "salt": b64url(salt(event_type)),
        "data": data,
    }
    if event.about is About.JOB:
        body |= {"tenant": "ada", "jobId": subject, "attempt": attempt, "origin": "hosted"}
        if event_type != "JobSubmitted":
            body |= {"nid": JOB_NID}
    else:
        body |= {"subject": subject}
    if prev:
        body |= {"prev": prev}
    assert not rest, rest
    return encode(body)


SUBMITTED = receipt(
    "JobSubmitted",
    {
        "kind": "text-to-image",
        "model": "tiny-shapes",
        "inputs": DIGESTS,
        "priority": 0,
        "expires_at": "2026-11-22T07:00:01.000Z",
        "max_price": "2000000000000000",
        **signed(ADA, REQUEST),
    },
    actor=f"client:{ADA.key_id}",
)
JOB_NID = nid(SUBMITTED)
FENCED: dict[str, Any] = {"job_id": JOB, "job_nid": JOB_NID, "attempt": 1, "fencing": 1}


def work(type_: str, **fields: Any) -> dict[str, Any]:
    """The provider's signed word under its lease."""
    return {"fencing": 1, **signed(BO, claims.claim_text(type_, **FENCED, **fields))}


USAGE = usage_text(
    UsageClaim(
        job_id=JOB,
        job_nid=JOB_NID,
        attempt=1,
        provider=BO.key_id,
        payout=PAYOUT,
        client=field_digest("client", "ada", salt("client")),
        units=1830,
        unit_type="cpu_ms",
        price=10**15,
        amount=1830 * 10**15,
        model="tiny-shapes",
        model_digest=hashlib.sha256(b"weights").hexdigest(),
        prompt_hash=DIGESTS["prompt"],
        started_at=moment(3),
        finished_at=moment(5),
        artifact_sha256=UNSIGNED,
        nonce=b64url(salt("usage nonce")),
        hub_id=ORIGIN,
        chain_id=31337,
    )
)
USAGE_HASH = receipt_hash(USAGE)
DEADLINE = 1_797_836_400
ATTESTATION: Signature = sign_authorization(
    ATTESTER,
    Domain(chain_id=31337, verifying_contract=MINTER),
    MintAuthorization(provider=PAYOUT, units=1830 * 10**15, receipt_hash=USAGE_HASH, deadline=DEADLINE),
)
ROTATION = encode(
    {"v": 1, "type": "KeyAct", "act": "added", "role": "provider", "key_id": BO.key_id, "from_leaf": 0, "at": moment(1)}
).decode()
PUBLIC_USAGE = f"usage:{USAGE_HASH}"

# The job's own chain, in the order of the line; each links to the one before.
CHAIN: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    (
        "JobScheduled",
        {
            "provider": BO.key_id,
            "fencing": 1,
            "lease_until": moment(17),
            "unit_type": "cpu_ms",
            "price": "1000000000000000",
            "score_ppm": 500_000,
            "asks": 1,
        },
        {},
    ),
    (
        "JobStarted",
        work(
            claims.STARTED,
            provider=BO.key_id,
            model="tiny-shapes",
            model_digest=hashlib.sha256(b"weights").hexdigest(),
            device="cpu",
            runner="text-to-image/1",
            at=moment(3),
        ),
        {"actor": f"provider:{BO.key_id}"},
    ),
    (
        "JobProgressUpdate",
        {"step": 10, "steps": 20, **work(claims.PROGRESS, step=10, steps=20, at=moment(4))},
        {"actor": f"provider:{BO.key_id}", "n": 1},
    ),
    (
        "JobCompleted",
        work(
            claims.COMPLETED,
            provider=BO.key_id,
            outputs=[{"name": "picture.png", "sha256": UNSIGNED, "size": 7, "mime": "image/png"}],
            facts={"seed": "7", "steps": 20},
            meter=METER,
            started_at=moment(3),
            finished_at=moment(5),
        ),
        {"actor": f"provider:{BO.key_id}"},
    ),
    (
        "CredentialIssued",
        {
            "name": "picture.png",
            "unsigned_sha256": UNSIGNED,
            "signed_sha256": SIGNED,
            "size": 14,
            "mime": "image/png",
            "embedded": True,
            "manifest_label": "urn:c2pa:0d6c1f9e-5f0b-4a57-9d52-6f5a2f1f7f10",
            "certificate_sha256": CERTIFICATE,
        },
        {},
    ),
    ("UsageReceipt", {"receipt_hash": USAGE_HASH, **signed(BO, USAGE)}, {"actor": f"provider:{BO.key_id}"}),
]

# Other ends that a job can take instead of JobCompleted: each stands as the third receipt of its job.
OTHER_ENDS: list[tuple[str, dict[str, Any]]] = [
    (
        "JobFailed",
        {
            "class": "runner",
            "billed": "nothing",
            "attempts": 3,
            "detail": field_digest("detail", "the device went away", salt("detail")),
            "last_heartbeat": moment(4),
            "meter": METER,
            **work(claims.FAILED, **{"class": "runner", "meter": METER, "at": moment(4)}),
        },
    ),
    ("JobCancelled", {"by": "client", "billed": "nothing", "fencing": 1, "last_heartbeat": moment(4)}),
    ("JobRequeued", {"cause": "lease-lost", "fencing": 1, "attempts_left": 2, "last_heartbeat": moment(4)}),
]

# What the public must check, and the house's own affairs.
OTHERS: list[tuple[str, str, dict[str, Any], dict[str, Any]]] = [
    (
        "UsageAttested",
        PUBLIC_USAGE,
        {
            "receipt_hash": USAGE_HASH,
            "provider": PAYOUT,
            "units": 1830,
            "unit_type": "cpu_ms",
            "price": "1000000000000000",
            "amount": "1830000000000000000",
            "acceptance": "none",
            "epoch": "2026-11-21",
            "chain_id": 31337,
            "minter": MINTER,
            "deadline": DEADLINE,
            "attestations": [ATTESTATION],
        },
        {"actor": f"attester:{ATTESTER.key_id}"},
    ),
    (
        "TokensMinted",
        PUBLIC_USAGE,
        {
            "receipt_hash": USAGE_HASH,
            "provider": PAYOUT,
            "amount": "1830000000000000000",
            "chain_id": 31337,
            "token": TOKEN,
            "minter": MINTER,
            "tx_hash": TX_HASH,
            "block_number": 42,
            "block_hash": BLOCK_HASH,
        },
        {"actor": f"sender:{SENDER.key_id}"},
    ),
    ("ReceiptErased", "erasures", {"erased": JOB_NID, "reason": "law"}, {}),
    (
        "ChainReversed",
        "chain-31337",
        {"tx_hash": TX_HASH, "chain_id": 31337, "block_number": 42, "block_hash": BLOCK_HASH, "purpose": "anchor"},
        {},
    ),
    (
        "ProviderRegistered",
        "provider-bo",
        {
            "provider": BO.key_id,
            "payout": PAYOUT,
            "kinds": ["text-to-image"],
            "unit_type": "cpu_ms",
            "price": "1000000000000000",
        },
        {},
    ),
    (
        "ReputationChanged",
        "provider-bo",
        {"provider": BO.key_id, "before_ppm": 500_000, "after_ppm": 1_000_000, "because": JOB_NID},
        {},
    ),
    ("AuctionSettled", "auctions", {"auction": "a-1", "asks": 1, "bids": 1, "matches": 1, "rule": "score"}, {}),
    ("VerdictReached", "checks", {"check": "re-run", "about": JOB_NID, "verdict": "holds"}, {}),
    (
        "KeyRotated",
        f"key:{BO.key_id}",
        {
            "role": "provider",
            "act": "added",
            "key_id": BO.key_id,
            "from_leaf": 0,
            "claim": ROTATION,
            "signatures": [sign_text(ROOT, ROTATION)],
        },
        {"actor": f"root:{ROOT.key_id}"},
    ),
    (
        "Census",
        "census",
        {
            "epoch": "2026-11-21T00:00:00.000Z",
            "jobs": 1,
            "receipts": 9,
            "mints": 1,
            "amount": "1830000000000000000",
            "log_size": 9,
        },
        {},
    ),
    (
        "AdminAction",
        "admin",
        {"action": "provider.pause", "by": field_digest("by", "Cy", salt("by")), "count": 1},
        {"actor": "operator:cy"},
    ),
]


def examples() -> dict[str, bytes]:
    """Build one receipt of each type: its canonical bytes."""
    found = {"JobSubmitted": SUBMITTED}
    prev = JOB_NID
    for seq, (event_type, data, rest) in enumerate(CHAIN, start=2):
        found[event_type] = receipt(event_type, data, seq=seq, prev=prev, **rest)
        prev = nid(found[event_type])
    for event_type, data in OTHER_ENDS:
        found[event_type] = receipt(event_type, data, seq=3, prev=nid(found["JobScheduled"]))
    for event_type, subject, data, rest in OTHERS:
        found[event_type] = receipt(event_type, data, subject=subject, attempt=0, **rest)
    return found


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for event_type, body in examples().items():
        (FOLDER / f"{event_type}.json").write_bytes(body)
