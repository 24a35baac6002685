"""A small real log: Ada's jobs and the house's affairs, several bundles, full and partial tiles, anchored checkpoints.

Written through the house's own deeds; only the chain's node is left out: transactions are signed, nobody sends them.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from django.db import connection, transaction

from receipts import log
from receipts.anchor import commit_data
from receipts.chain import rlp
from receipts.checkpoint import Checkpoint as SignedSize
from receipts.committers.erc7053 import encode_commit
from receipts.keys import make_key_file
from receipts.models import ChainTransaction, Checkpoint, Commit, LogHead, Tenant, TransactionHash
from tests.receipts.examples import SENDER
from tests.receipts.test_record import write

ORIGIN = "log.example/ada"
REGISTER = "0x" + "7e" * 20
ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
STEPS = ("JobScheduled", "JobStarted", "JobProgressUpdate", "JobCompleted", "CredentialIssued", "UsageReceipt")


def found(settings: Any, folder: Path) -> LogHead:
    """Found a log with its key and an empty folder of tiles; a checkpoint is due at once."""
    settings.TLOG_DIR = folder / "tlog"
    settings.KEYS_DIR = folder / "keys"
    settings.CHECKPOINT_SECONDS = 0
    make_key_file(settings.KEYS_DIR / "log.key", "ed25519")
    Tenant.objects.get_or_create(id="ada", defaults={"name": "Ada"})
    return log.found_log(ORIGIN)


def grow(count: int, *, start: int) -> None:
    """Write that many receipts: jobs of seven receipts each, every eighth receipt an affair of the house."""
    for number in range(start, start + count):
        job, step = divmod(number, 8)
        subject = "job_01kax3m8q2v7n4w9s5t6r1z" + "".join(ALPHABET[job >> shift & 31] for shift in (10, 5, 0))
        if step == 7:
            write("ReputationChanged", subject="provider-bo", tenant_id=None, attempt=0, n=job + 1)
        elif step == 0:
            write(subject=subject)
        else:
            event_type = STEPS[step - 1]
            write(event_type, subject=subject, n=1 if event_type == "JobProgressUpdate" else 0)


def anchor(row: Checkpoint, nonce: int) -> Commit:
    """Write an anchor as the house does, with its signed transaction."""
    head = log.log_head()
    told = commit_data(SignedSize(head.origin, row.size, bytes(row.root)), head.nid)
    data = encode_commit(head.nid, told)
    sent = ChainTransaction.objects.create(
        key=f"anchor:{head.nid}:{row.size}",
        purpose=ChainTransaction.Purpose.ANCHOR,
        chain_id=31337,
        sender=SENDER.address,
        to=REGISTER,
        data=data,
        nonce=nonce,
        state="final",
    )
    fees = {"max_priority_fee": 10**9, "max_fee": 3 * 10**9, "gas_limit": 100_000}
    raw = rlp.sign_transaction(SENDER, chain_id=31337, nonce=nonce, to=REGISTER, value=0, data=data, **fees)
    TransactionHash.objects.create(
        hash=rlp.transaction_hash(raw),
        transaction=sent,
        raw=raw,
        max_fee_wei=fees["max_fee"],
        max_priority_fee_wei=fees["max_priority_fee"],
    )
    sent.hash = rlp.transaction_hash(raw)
    sent.save(update_fields=["hash"])
    return Commit.objects.create(checkpoint=row, asset_cid=head.nid, commit_data=told, transaction=sent)


def build(sizes: tuple[int, ...] = (3, 150, 300, 600), pending: int = 5) -> None:
    """Let the founded log grow to each of these sizes, with a checkpoint and its anchor, and leave some pending."""
    for nonce, size in enumerate(sizes):
        grow(size - log.log_head().size, start=log.log_head().size)
        assert log.turn().published == size
        anchor(Checkpoint.objects.get(size=size), nonce)
    grow(pending, start=sizes[-1])


@contextmanager
def past_the_guards() -> Iterator[Any]:
    """Change evidence as only the owner of the database can: past triggers and foreign keys."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL session_replication_role = replica")
        yield cursor
        cursor.execute("SET LOCAL session_replication_role = origin")
