"""Commit single receipts: each on its job's NID, so that a chain tells a job's story by itself (COMMIT_POLICY=each).

A receipt's own statement adds a row to `Uncommitted`; here that row becomes an intent, in one transaction. So no
receipt is missed whatever dies in between, none is looked for, and recording costs no further query. The whole intent
in the receipt's statement would cost one too, and would tie each move to what a chain's transaction looks like.

A commit says no more than the log does, NID and type, and which log it is; but on its job's NID it also shows which
receipts belong together, which the log never does. Receipts of the public and of the house name no job on purpose:
they are committed by anchors alone, and the log's own NID keeps its one history, that of anchors.
"""

from typing import Final

from django.db import transaction

from receipts.canonical import encode
from receipts.committers.evm import committer
from receipts.log import log_head
from receipts.models import Commit, Receipt, Thread, Uncommitted

AT_ONCE: Final = 64  # four times what one turn sends: the queue never runs dry, and the intents stay short


def commit_data(receipt: Receipt, log_nid: str) -> str:
    """Write what a receipt's commit says. What never ran on a GPU says so here too."""
    told = {"eventType": receipt.event_type, "log": log_nid, "nid": receipt.nid}
    if receipt.origin == "simulated":
        told["origin"] = receipt.origin
    return encode(told).decode()


def commit_receipts(limit: int = AT_ONCE) -> int:
    """Write down the intents for receipts that wait to be committed, oldest first; give how many.

    A job's receipts become intents in their own order, and nonces follow it.
    Raises: LogNotFounded.
    """
    by = committer()
    if by is None:
        return 0
    with transaction.atomic():
        # Two at once take different rows: who finds a row locked leaves it to the other.
        rows = Uncommitted.objects.select_for_update(of=("self",), skip_locked=True).select_related("receipt")
        receipts = [row.receipt for row in rows.order_by("pk")[:limit]]
        if not receipts:
            return 0
        log_nid = log_head().nid
        jobs = dict(
            Thread.objects.filter(pk__in={receipt.subject for receipt in receipts}).values_list("pk", "first_nid")
        )
        for receipt in receipts:
            told, job_nid = commit_data(receipt, log_nid), jobs[receipt.subject]
            sent = by.commit(asset_cid=job_nid, commit_data=told, key=f"commit:{receipt.nid}", tenant=receipt.tenant_id)
            Commit.objects.get_or_create(
                receipt=receipt, defaults={"asset_cid": job_nid, "commit_data": told, "transaction": sent}
            )
        Uncommitted.objects.filter(pk__in=[receipt.pk for receipt in receipts]).delete()
    return len(receipts)


def sent_hash(nid: str) -> str | None:
    """Give the hash under which a receipt's commit was signed last; None while there is none. It may still change."""
    found = Commit.objects.filter(receipt__nid=nid).values_list("transaction__hash", flat=True).first()
    return found or None
