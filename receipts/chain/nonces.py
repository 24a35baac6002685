"""Give each transaction its nonce from the database, and find out who took one.

One sender at a time: an advisory lock for each key, held by the process that sends, for as long as it lives.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import connection
from django.db.models import Max

from receipts.chain.client import Request, Rpc, quantity
from receipts.models import ChainTransaction, SenderStatus


@contextmanager
def sole_sender(*, sender: str, chain_id: int) -> Iterator[bool]:
    """Hold the lock of one key on one chain; False where another process holds it.

    The lock belongs to the session: a process that dies, or loses its connection, gives it up.
    """
    name = int.from_bytes(hashlib.sha256(f"sender {chain_id} {sender}".encode()).digest()[:8], signed=True)
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s)", [name])
        held = bool(cursor.fetchone()[0])
    try:
        yield held
    finally:
        if held and connection.connection is not None and not connection.connection.closed:
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_unlock(%s)", [name])


def next_nonce(status: SenderStatus) -> int:
    """Give the nonce that comes next by our own rows alone."""
    used = ChainTransaction.objects.filter(sender=status.sender, chain_id=status.chain_id).aggregate(last=Max("nonce"))
    return max(status.next_nonce, -1 if used["last"] is None else used["last"] + 1)


def take_nonces(status: SenderStatus, *, count: int, chain_nonce: int) -> list[int]:
    """Take the next `count` nonces, inside the transaction that stores what is signed with them.

    The database leads. The chain is only heard where it is ahead, and its word was proved: an older database was
    restored, or somebody else sends with this key.
    """
    locked = SenderStatus.objects.select_for_update().get(pk=status.pk)
    first = max(next_nonce(locked), chain_nonce)
    locked.next_nonce = status.next_nonce = first + count
    locked.save(update_fields=["next_nonce"])
    return list(range(first, first + count))


def used_by(rpc: Rpc, *, sender: str, block: int) -> int:
    """Ask how many nonces an account had used when a block was made.

    Raises: RpcRefused, where the node keeps no state of that height; RpcUnreachable.
    """
    return quantity(rpc.read("eth_getTransactionCount", sender, hex(block)))


def who_took(rpc: Rpc, *, sender: str, nonce: int, deepest: int) -> str | None:
    """Find the hash of the transaction that used `nonce`, in a block not after `deepest`; None where none did.

    Evidence, not absence: the block is found by the account's nonce at each height, and the transaction read out of it.

    Raises: RpcRefused, where the node keeps no state of that height; RpcUnreachable.
    """

    def used_at(block: int) -> bool:
        return used_by(rpc, sender=sender, block=block) > nonce

    if deepest < 0 or not used_at(deepest):
        return None
    # Backwards in growing steps first: nodes that prune keep the newest state alone.
    low, high, step = deepest - 1, deepest, 1
    while low >= 0 and used_at(low):
        low, high, step = low - step * 2, low, step * 2
    low = max(low, -1)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if used_at(middle) else (middle, high)
    [block] = rpc.read_many([Request("eth_getBlockByNumber", [hex(high), True])])
    return _hash_of(block, sender, nonce)


def _hash_of(block: Any, sender: str, nonce: int) -> str | None:
    transactions = block.get("transactions", []) if isinstance(block, dict) else []
    for transaction in transactions:
        if str(transaction.get("from")).lower() == sender and quantity(transaction.get("nonce")) == nonce:
            return str(transaction.get("hash")).lower()
    return None
