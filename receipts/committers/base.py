"""What every way of committing in public promises, on one page."""

from dataclasses import dataclass
from typing import Protocol

from receipts.models import ChainTransaction


@dataclass(frozen=True, slots=True)
class FoundCommit:
    """A commit as the chain tells it. `commit_data` is the recorder's word, nobody else's."""

    asset_cid: str
    recorder: str
    commit_data: str
    tx_hash: str
    block_number: int
    block_hash: str


class Committer(Protocol):
    """A public place where what was said about an asset can't be unsaid.

    A committer promises:

    1. `commit` only writes the wish down, in the caller's transaction; repeating a key commits nothing new.
    2. What was wished is sent at least once and stands at most once, or ends with a reason.
    3. `find` tells what the place holds, in its order, whatever our own rows say; anyone may commit, so it asks whose
       commits are wanted.
    """

    def commit(self, *, asset_cid: str, commit_data: str, key: str, tenant: str | None = None) -> ChainTransaction:
        """Wish that `commit_data` is committed on `asset_cid`."""
        ...

    def find(self, *, asset_cid: str, recorder: str) -> list[FoundCommit]:
        """Find what `recorder` committed on `asset_cid`, oldest first.

        Raises: receipts.chain.client.ChainError.
        """
        ...
