"""Mint the tokens of one attested usage claim, once: intent, act, outcome.

The chain refuses a second mint of the same receipt hash; so does the unique key of the intent. A transaction
that the chain reverted is looked into: if the receipt was used by our own earlier one, it is minted.
"""

from typing import Any

from django.conf import settings

from minting.attest import authorization, move, usage_subject
from minting.calldata import encode_mint
from minting.models import MintState, Usage
from minting.usage import parse_usage
from receipts.canonical import unb64url
from receipts.chain.sender import intend
from receipts.models import ChainTransaction, Receipt
from receipts.models.transactions import TransactionState
from receipts.record import record


def mint_calldata(usage: Usage) -> bytes:
    """Encode the call that mints an attested claim."""
    assert usage.attestation is not None
    granted = authorization(parse_usage(usage.text), usage.receipt_hash, usage.attestation["deadline"])
    signatures = [(one["key_id"], unb64url(one["sig"], size=65)) for one in usage.attestation["signatures"]]
    return encode_mint(granted, signatures)


def mint(*, usage: Usage) -> Usage:
    """Write down the intent to mint; the sender takes it from there. Inside the caller's transaction."""
    sent = intend(
        purpose=ChainTransaction.Purpose.MINT,
        key=f"mint:{usage.receipt_hash}",
        to=settings.MINTER_ADDRESS,
        data=mint_calldata(usage),
        tenant=usage.tenant_id,
    )
    return move(usage, MintState.SENT, transaction=sent)


def settle(*, usage: Usage) -> Usage:
    """Follow a sent mint: note TokensMinted once it is final, or the refusal. Inside the caller's transaction."""
    sent = usage.transaction
    assert sent is not None
    if sent.state == TransactionState.FINAL:
        written = record(
            event_type="TokensMinted",
            subject=usage_subject(usage.receipt_hash),
            tenant_id=None,
            actor=f"sender:{sent.sender}",
            data=_minted(usage, sent),
        )
        return move(usage, MintState.MINTED, minted_receipt=Receipt(pk=written.id))
    if sent.state in (TransactionState.FAILED, TransactionState.REPLACED):
        return move(usage, MintState.REFUSED, reason=(sent.reason or f"its transaction is {sent.state}")[:300])
    return usage


def _minted(usage: Usage, sent: ChainTransaction) -> dict[str, Any]:
    assert usage.attested_receipt is not None and sent.block_number is not None
    data: dict[str, Any] = {
        "receipt_hash": usage.receipt_hash,
        "provider": usage.payout,
        "amount": str(int(usage.amount)),
        "chain_id": sent.chain_id,
        "token": settings.TOKEN_ADDRESS,
        "minter": sent.to,
        "tx_hash": sent.hash,
        "block_number": sent.block_number,
        "block_hash": sent.block_hash,
    }
    shares = parse_usage(usage.text).shares
    if shares is not None:
        data["shares"] = [{"provider": one.payout, "units": one.units, "amount": str(one.amount)} for one in shares]
    return data
