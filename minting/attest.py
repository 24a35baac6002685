"""Hold a provider's usage claim against what the hub saw, and sign for it as attester.

The claim becomes a UsageReceipt (private, of its job) and, once attested, a UsageAttested (public, without
tenant or job). Whoever mints brings the attesters' signatures to the minter contract.
"""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.conf import settings

from minting.eip712 import Domain, MintAuthorization, SplitAuthorization, sign_authorization
from minting.models import MOVES, MintState, Usage
from minting.usage import UsageClaim, UsageInvalid, parse_usage, receipt_hash
from receipts.keys import secp256k1_signer
from receipts.models import Receipt, Tenant
from receipts.record import Recorded, database_now, record


class UsageRefused(Exception):
    """A usage claim does not fit what the hub saw: `rule` says where."""

    def __init__(self, rule: str) -> None:
        super().__init__(rule)
        self.rule = rule


class IllegalMintMove(Exception):
    """No move leads from where the mint stands to where it was to go, or someone else moved it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What the hub itself knows of the work: lease, price, the completed claim's measurement, its own clock's span."""

    job_id: str
    job_nid: str
    attempt: int
    provider: str
    payout: str
    price: int
    unit_type: str
    units_measured: int
    artifact_sha256s: frozenset[str]
    span_ms: int
    max_price: int | None
    cores: int = 1024


def receive_usage(
    *, tenant: Tenant, subject: str, attempt: int, origin: str, text: str, signature: Mapping[str, Any]
) -> Usage:
    """Note a provider's usage claim: its UsageReceipt and its row, inside the caller's transaction.

    The signature was checked when the work was accepted. Raises: UsageInvalid.
    """
    claim = parse_usage(text)
    hash_ = receipt_hash(text)
    written = record(
        event_type="UsageReceipt",
        subject=subject,
        tenant_id=tenant.pk,
        actor=f"provider:{claim.provider}",
        data={"receipt_hash": hash_, "claim": text, "sig": dict(signature)},
        attempt=attempt,
        origin=origin,
    )
    return Usage.objects.create(
        tenant=tenant,
        subject=subject,
        receipt_hash=hash_,
        text=text,
        signature=dict(signature),
        provider=claim.provider,
        payout=claim.payout,
        units=claim.units,
        unit_type=claim.unit_type,
        price=claim.price,
        amount=claim.amount,
        usage_receipt=Receipt.objects.get(nid=written.nid),
    )


def attest(*, usage: Usage, facts: Facts) -> Usage:
    """Attest a usage claim that fits the facts, or refuse it with the reason; inside the caller's transaction.

    Raises: KeyUnusable, when the attester's key is not here.
    """
    try:
        claim = parse_usage(usage.text)
        check_claim(claim, facts)
    except (UsageInvalid, UsageRefused) as error:
        return move(usage, MintState.REFUSED, reason=str(error)[:300])
    now = database_now()
    deadline = int(now.timestamp()) + settings.MINT_DEADLINE_DAYS * 86_400
    signature = sign_authorization(
        secp256k1_signer("attester", settings.KEYS_DIR), domain(), authorization(claim, usage.receipt_hash, deadline)
    )
    written = _record_attested(usage, claim, deadline, signature, now)
    return move(
        usage,
        MintState.ATTESTED,
        attestation={"deadline": deadline, "signatures": [signature]},
        attested_receipt=Receipt.objects.get(nid=written.nid),
    )


def check_claim(claim: UsageClaim, facts: Facts) -> None:
    """Hold a claim against the facts.

    Raises: UsageRefused, naming the first field that does not fit.
    """
    due = {
        "job_id": facts.job_id,
        "job_nid": facts.job_nid,
        "attempt": facts.attempt,
        "provider": facts.provider,
        "payout": facts.payout,
        "price": facts.price,
        "unit_type": facts.unit_type,
        "units": facts.units_measured,
        "hub_id": settings.LOG_ORIGIN,
        "chain_id": settings.CHAIN_ID,
    }
    for name, value in due.items():
        if getattr(claim, name) != value:
            raise UsageRefused(f"{name} is {getattr(claim, name)!r}, the hub knows {value!r}")
    if claim.artifact_sha256 not in facts.artifact_sha256s:
        raise UsageRefused("artifact_sha256 is none of the outputs that were kept")
    if facts.max_price is not None and claim.price > facts.max_price:
        raise UsageRefused(f"price {claim.price} is above the client's {facts.max_price}")
    # A device's own time can't exceed the span that the hub's clock saw; a host's can, by its cores.
    most = facts.span_ms * (facts.cores if facts.unit_type == "cpu_ms" else 1)
    if claim.units > most:
        raise UsageRefused(f"{claim.units} {claim.unit_type} in a span of {facts.span_ms} ms")


def authorization(claim: UsageClaim, hash_: str, deadline: int) -> MintAuthorization | SplitAuthorization:
    """What the attesters sign for a claim: one provider, or the shares of several."""
    payouts = claim.payouts()
    if claim.shares is None:
        return MintAuthorization(payouts[0][0], payouts[0][1], hash_, deadline)
    return SplitAuthorization([to for to, _ in payouts], [amount for _, amount in payouts], hash_, deadline)


def domain() -> Domain:
    """The minter that the house mints through."""
    return Domain(settings.CHAIN_ID, settings.MINTER_ADDRESS)


def move(usage: Usage, to: MintState, **facts: Any) -> Usage:
    """Move a mint by compare-and-swap on its state. Raises: IllegalMintMove."""
    before = MintState(usage.state)
    if to not in MOVES[before]:
        raise IllegalMintMove(f"{usage.receipt_hash} is {before}; no move leads from there to {to}")
    if Usage.objects.filter(pk=usage.pk, state=before).update(state=to, **facts) != 1:
        raise IllegalMintMove(f"{usage.receipt_hash} is no longer {before}")
    usage.refresh_from_db()
    return usage


def _record_attested(
    usage: Usage, claim: UsageClaim, deadline: int, signature: Mapping[str, Any], now: dt.datetime
) -> Recorded:
    data: dict[str, Any] = {
        "receipt_hash": usage.receipt_hash,
        "provider": claim.payout,
        "units": claim.units,
        "unit_type": claim.unit_type,
        "price": str(claim.price),
        "amount": str(claim.amount),
        "acceptance": usage.acceptance,
        "epoch": f"{now:%Y-%m-%d}",
        "chain_id": settings.CHAIN_ID,
        "minter": settings.MINTER_ADDRESS,
        "deadline": deadline,
        "attestations": [dict(signature)],
    }
    if claim.shares is not None:
        data["shares"] = [
            {"provider": share.payout, "units": share.units, "amount": str(share.amount)} for share in claim.shares
        ]
    return record(
        event_type="UsageAttested",
        subject=usage_subject(usage.receipt_hash),
        tenant_id=None,
        actor=f"attester:{signature['key_id']}",
        data=data,
        occurred_at=now,
    )


def usage_subject(hash_: str) -> str:
    """The public subject of one usage claim: it names neither tenant nor job."""
    return f"usage:{hash_}"
