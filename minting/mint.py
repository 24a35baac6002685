"""Mint the tokens of one attested usage claim, once: intent, act, outcome.

The chain refuses a second mint of the same receipt hash; so does the unique key of the intent. Where our
transaction did not land, the token's own record decides: it names every receipt that was ever used.
"""

from dataclasses import dataclass
from typing import Any

from django.conf import settings

from minting.attest import authorization, move, usage_subject
from minting.calldata import MINTED_TOPIC, RECEIPT_USED_TOPIC, encode_mint
from minting.models import MintState, Usage
from minting.usage import parse_usage
from receipts.canonical import unb64url
from receipts.chain.client import ChainError, Rpc, RpcUnreachable, quantity
from receipts.chain.sender import intend, intend_again, node, sender_signer
from receipts.models import ChainTransaction, Receipt
from receipts.models.transactions import TransactionState
from receipts.record import record


class MintDiffers(ChainError):
    """The chain minted something else for a receipt than was attested."""


@dataclass(frozen=True, slots=True)
class Landed:
    """Where the tokens of a receipt were minted, and by which minter."""

    minter: str
    tx_hash: str
    block_number: int
    block_hash: str


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


def settle(*, usage: Usage, rpc: Rpc | None = None) -> Usage:
    """Follow a sent mint: note TokensMinted once it is final, or the refusal. Inside the caller's transaction.

    Only where our transaction came to another end does this ask the chain, to read: anyone may carry an
    authorization to the minter, so tokens may stand there that our own transaction did not mint.
    """
    sent = usage.transaction
    assert sent is not None
    if sent.state == TransactionState.FINAL:
        assert sent.block_number is not None
        return _note_minted(usage, Landed(sent.to, sent.hash, sent.block_number, sent.block_hash))
    if sent.state not in (TransactionState.FAILED, TransactionState.REPLACED):
        return usage
    try:
        return _reconcile(usage, sent, rpc or node())
    except ChainError as error:
        Usage.objects.filter(pk=usage.pk).update(reason=f"can't see whether it was minted: {error}"[:300])
        usage.refresh_from_db()
        return usage


def _reconcile(usage: Usage, sent: ChainTransaction, rpc: Rpc) -> Usage:
    landed = find_mint(rpc, usage)
    if landed is not None:
        deep = quantity(rpc.read("eth_blockNumber")) - landed.block_number + 1 >= settings.CONFIRMATIONS
        return _note_minted(usage, landed) if deep else usage
    if sent.state == TransactionState.FAILED and not sent.hash:
        # Refused before it was sent: the contract says no to this very call, and would say so again.
        return move(usage, MintState.REFUSED, reason=sent.reason)
    again = intend_again(sent)
    Usage.objects.filter(pk=usage.pk, transaction=sent).update(transaction=again, reason=sent.reason)
    usage.refresh_from_db()
    return usage


def find_mint(rpc: Rpc, usage: Usage) -> Landed | None:
    """Find the mint of a receipt in the token's own record, whoever carried it there; None where there is none.

    Raises: ChainError; MintDiffers, when what was minted is not what was attested: then an attester's key is stolen.
    """
    query = {"address": settings.TOKEN_ADDRESS, "fromBlock": "0x0", "toBlock": "latest"}
    logs = rpc.read("eth_getLogs", query | {"topics": [RECEIPT_USED_TOPIC, usage.receipt_hash]})
    if not logs:
        return None
    used = logs[0]
    minter = "0x" + used["topics"][2][-40:]
    receipt = rpc.read("eth_getTransactionReceipt", used["transactionHash"])
    if receipt is None:
        raise RpcUnreachable("the node has a mint's log and not its receipt")
    told = [
        ("0x" + log["topics"][1][-40:], int(log["data"][2:66], 16))
        for log in receipt["logs"]
        if log["topics"][0] == MINTED_TOPIC and log["data"][66:] == usage.receipt_hash[2:]
    ]
    due = parse_usage(usage.text).payouts()
    if told != due:
        raise MintDiffers(f"{used['transactionHash']} minted {told} for this receipt, {due} was attested")
    return Landed(minter, used["transactionHash"], quantity(used["blockNumber"]), used["blockHash"])


def _note_minted(usage: Usage, landed: Landed) -> Usage:
    assert usage.transaction is not None
    data: dict[str, Any] = {
        "receipt_hash": usage.receipt_hash,
        "provider": usage.payout,
        "amount": str(int(usage.amount)),
        "chain_id": usage.transaction.chain_id,
        "token": settings.TOKEN_ADDRESS,
        "minter": landed.minter,
        "tx_hash": landed.tx_hash,
        "block_number": landed.block_number,
        "block_hash": landed.block_hash,
    }
    shares = parse_usage(usage.text).shares
    if shares is not None:
        data["shares"] = [{"provider": one.payout, "units": one.units, "amount": str(one.amount)} for one in shares]
    written = record(
        event_type="TokensMinted",
        subject=usage_subject(usage.receipt_hash),
        tenant_id=None,
        actor=f"sender:{sender_signer().address}",
        data=data,
    )
    return move(usage, MintState.MINTED, minted_receipt=Receipt.objects.get(nid=written.nid), reason="")
