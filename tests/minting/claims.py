"""A usage claim of Bo's, for Ada's picture."""

from typing import Any

from minting.usage import UsageClaim
from receipts.canonical import nid

BO = "0x" + "b0" * 20
CY = "0x" + "c1" * 20


def claim(**changes: Any) -> UsageClaim:
    """Make a lawful claim, with some fields changed."""
    facts: dict[str, Any] = {
        "job_id": "job_7f3k",
        "job_nid": nid(b"job"),
        "attempt": 1,
        "provider": "B" * 43,
        "payout": BO,
        "client": "client-5e2a",
        "units": 1830,
        "unit_type": "cpu_ms",
        "price": 10**15,
        "amount": 1830 * 10**15,
        "model": "tiny-shapes",
        "model_digest": "ab" * 32,
        "prompt_hash": "p" * 43,
        "started_at": "2026-11-21T07:00:50.480Z",
        "finished_at": "2026-11-21T07:00:52.310Z",
        "artifact_sha256": "cd" * 32,
        "nonce": "n" * 22,
        "hub_id": "tallystick.example/log",
        "chain_id": 31337,
    }
    return UsageClaim(**{**facts, **changes})
