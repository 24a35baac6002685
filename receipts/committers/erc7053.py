"""Write and read an ERC-7053 commit: its calldata, its event, the transaction that carries it. Pure.

Source: ERC-7053 (Interoperable Digital Media Indexing).
"""

from typing import Final, NamedTuple

from receipts.chain import abi
from receipts.chain.abi import NotCalldata
from receipts.chain.rlp import NotRlp, RawTransaction, decode_raw_transaction
from receipts.keys import keccak256

__all__ = [
    "COMMIT_TOPIC",
    "CommitCall",
    "NotCalldata",
    "NotRlp",
    "RawTransaction",
    "commit_topics",
    "decode_commit",
    "decode_commit_data",
    "decode_raw_transaction",
    "encode_commit",
]

COMMIT_SIGNATURE: Final = "commit(string,string)"
COMMIT_SELECTOR: Final = abi.selector(COMMIT_SIGNATURE)
COMMIT_TOPIC: Final = "0x" + keccak256(b"Commit(address,string,string)").hex()


class CommitCall(NamedTuple):
    """What one commit says about which asset."""

    asset_cid: str
    commit_data: str


def encode_commit(asset_cid: str, commit_data: str) -> bytes:
    """Encode the call that commits `commit_data` on the asset `asset_cid`."""
    return abi.call(COMMIT_SIGNATURE, abi.string(asset_cid), abi.string(commit_data))


def decode_commit(calldata: bytes) -> CommitCall:
    """Read a commit back from its calldata.

    Raises: NotCalldata, for another function and for any but the usual encoding: two spellings of one commit
    would let two readers see two things.
    """
    if calldata[:4] != COMMIT_SELECTOR:
        raise NotCalldata("is not a call of commit(string,string)")
    found = CommitCall(abi.string_at(calldata[4:], 0), abi.string_at(calldata[4:], abi.WORD))
    if encode_commit(*found) != calldata:
        raise NotCalldata("is not the usual encoding of what it says")
    return found


def decode_commit_data(event_data: bytes) -> str:
    """Read commitData from the data of a Commit event.

    Raises: NotCalldata.
    """
    found = abi.string_at(event_data, 0)
    if abi.arguments(abi.string(found)) != event_data:
        raise NotCalldata("is not the usual encoding of what it says")
    return found


def commit_topics(*, asset_cid: str | None = None, recorder: str | None = None) -> list[str | None]:
    """Give the topics that find commits on an asset, by a recorder, or both.

    By hand: an indexed string is hashed, which web3's own filters get wrong.
    """
    who = "0x" + abi.address(recorder).hex() if recorder else None
    what = "0x" + keccak256(asset_cid.encode()).hex() if asset_cid is not None else None
    return [COMMIT_TOPIC, who, what]
