"""Anchor checkpoints: commit the log's size and root on a public chain, on the log's own NID.

The commit's data names the log again, because an indexed string leaves only its hash on the chain.
"""

import base64
import datetime as dt

from django.conf import settings
from django.db import transaction

from receipts.canonical import encode, nid
from receipts.checkpoint import Checkpoint as SignedSize
from receipts.committers.evm import committer, renew_replaced
from receipts.cosigners import newest_final
from receipts.log import log_head
from receipts.models import Commit
from receipts.record import database_now


def commit_data(checkpoint: SignedSize, log_nid: str) -> str:
    """Write what an anchor says: the checkpoint's CID (of its unsigned text), the log, root and size."""
    return encode(
        {
            "checkpoint": nid(checkpoint.text().encode()),
            "log": log_nid,
            "root": base64.b64encode(checkpoint.root).decode(),
            "size": checkpoint.size,
        }
    ).decode()


def anchor() -> Commit | None:
    """Write down the intent to anchor the newest final checkpoint, if it is new and the last anchor is old enough.

    Idempotent by the checkpoint's size: two at once write one intent.
    """
    by = committer()
    if by is None:
        return None
    with transaction.atomic():
        renew_replaced()
        newest = newest_final()
        last = Commit.objects.filter(checkpoint__isnull=False).order_by("-checkpoint_id").first()
        if newest is None or (last and last.checkpoint_id is not None and last.checkpoint_id >= newest.size):
            return None
        if last and database_now() - last.created_at < dt.timedelta(seconds=settings.ANCHOR_INTERVAL):
            return None
        head = log_head()
        told = commit_data(SignedSize(head.origin, newest.size, bytes(newest.root)), head.nid)
        sent = by.commit(asset_cid=head.nid, commit_data=told, key=f"anchor:{head.nid}:{newest.size}")
        commit, _ = Commit.objects.get_or_create(
            checkpoint=newest, defaults={"asset_cid": head.nid, "commit_data": told, "transaction": sent}
        )
    return commit
