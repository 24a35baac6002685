"""Commit to an ERC-7053 register on an EVM chain, and find commits again by raw topics."""

from dataclasses import dataclass
from typing import Any, Final

from django.conf import settings

from receipts.chain.client import Rpc, RpcUnreachable, quantity
from receipts.chain.sender import intend, intend_again, node
from receipts.committers.base import FoundCommit
from receipts.committers.erc7053 import NotCalldata, commit_topics, decode_commit_data, encode_commit
from receipts.models import ChainTransaction, Commit
from receipts.models.transactions import TransactionState

MAX_COMMIT_BYTES: Final = 8 * 1024


class CommitTooLong(ValueError):
    """A commit's text does not fit into what a commit may cost."""


@dataclass(frozen=True, slots=True)
class EvmCommitter:
    """The register at `register`; anchors and receipts alike go through the house's own sender."""

    register: str

    def commit(self, *, asset_cid: str, commit_data: str, key: str, tenant: str | None = None) -> ChainTransaction:
        """Wish that `commit_data` is committed on `asset_cid`. A key with a tenant is that tenant's commit.

        Raises: CommitTooLong; receipts.chain.sender.IntentDiffers.
        """
        if len(commit_data.encode()) > MAX_COMMIT_BYTES:
            raise CommitTooLong(f"{len(commit_data.encode())} bytes, a commit has at most {MAX_COMMIT_BYTES}")
        purpose = ChainTransaction.Purpose.COMMIT if tenant else ChainTransaction.Purpose.ANCHOR
        data = encode_commit(asset_cid, commit_data)
        return intend(purpose=purpose, key=key, to=self.register, data=data, tenant=tenant)

    def find(self, *, asset_cid: str, recorder: str) -> list[FoundCommit]:
        """Find what `recorder` committed on `asset_cid`, oldest first."""
        return find_commits(node(), register=self.register, asset_cid=asset_cid, recorder=recorder)


def committer() -> EvmCommitter | None:
    """Give the house's committer, or None where no chain or register is set."""
    if not settings.CHAIN_RPC_URL or not settings.REGISTER_ADDRESS:
        return None
    return EvmCommitter(settings.REGISTER_ADDRESS)


def renew_replaced() -> int:
    """Wish anew what a stranger's use of a nonce kept from landing, inside the caller's transaction; give how many."""
    lost = Commit.objects.select_related("transaction").filter(transaction__state=TransactionState.REPLACED)
    for commit in lost:
        commit.transaction = intend_again(commit.transaction)
        commit.save(update_fields=["transaction"])
    return len(lost)


def find_commits(
    rpc: Rpc, *, register: str, asset_cid: str, recorder: str | None = None, from_block: int = 0
) -> list[FoundCommit]:
    """Find the commits on an asset in a register, oldest first; of one recorder, or of anyone.

    Raises: receipts.chain.client.ChainError, also for a log that is not a commit of that asset.
    """
    topics = commit_topics(asset_cid=asset_cid, recorder=recorder)
    logs = rpc.read(
        "eth_getLogs", {"address": register, "fromBlock": hex(from_block), "toBlock": "latest", "topics": topics}
    )
    if not isinstance(logs, list):
        raise RpcUnreachable("the node's answer is not a list of logs")
    return [_read_log(log, asset_cid, topics) for log in logs]


def _read_log(log: Any, asset_cid: str, topics: list[str | None]) -> FoundCommit:
    try:
        found = [str(topic).lower() for topic in log["topics"]]
        if len(found) != 3 or any(wanted not in (None, topic) for wanted, topic in zip(topics, found, strict=True)):
            raise RpcUnreachable("the node gave a log of something else")
        return FoundCommit(
            asset_cid=asset_cid,
            recorder="0x" + found[1][-40:],
            commit_data=decode_commit_data(bytes.fromhex(log["data"].removeprefix("0x"))),
            tx_hash=str(log["transactionHash"]).lower(),
            block_number=quantity(log["blockNumber"]),
            block_hash=str(log["blockHash"]).lower(),
        )
    except (KeyError, TypeError, AttributeError, ValueError, NotCalldata):
        raise RpcUnreachable("the node gave a log that can't be read") from None
