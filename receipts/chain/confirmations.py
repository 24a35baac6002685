"""Decide what a node's answers mean for a transaction: mined, final, reversed, or not to be told. Pure.

Answers are hearsay: a missing receipt proves nothing, and a block counts only while the chain still names its hash
at its height. A transaction is never final on the first sight of its receipt.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from receipts.chain.client import RpcUnreachable, quantity


class Sight(Enum):
    """What one look at the chain tells about one transaction."""

    NOTHING = auto()  # no receipt, or one in a block that is not the chain's: look again
    MINED = auto()  # in a block of the chain, not deep enough yet
    DEEP = auto()  # in a block of the chain that has all the confirmations asked for
    REVERSED = auto()  # the block it was in is no longer the chain's


@dataclass(frozen=True, slots=True)
class Block:
    """A block's place and name; `time` in unix seconds, `base_fee` in wei."""

    number: int
    hash: str
    time: int
    base_fee: int


@dataclass(frozen=True, slots=True)
class Inclusion:
    """Where a receipt says that a transaction was mined, and how it went."""

    tx_hash: str
    block_number: int
    block_hash: str
    succeeded: bool
    gas_used: int


def read_block(answer: Any) -> Block | None:
    """Read a block, or None where the node knows none.

    Raises: RpcUnreachable.
    """
    if answer is None:
        return None
    value = _mapping(answer)
    if "baseFeePerGas" not in value:
        raise RpcUnreachable("the node's blocks have no base fee: the chain is older than London, Cancun is due")
    return Block(
        number=quantity(value.get("number")),
        hash=str(value.get("hash")),
        time=quantity(value.get("timestamp")),
        base_fee=quantity(value["baseFeePerGas"]),
    )


def read_inclusion(answer: Any) -> Inclusion | None:
    """Read a transaction receipt, or None where the node has none.

    Raises: RpcUnreachable.
    """
    if answer is None:
        return None
    value = _mapping(answer)
    return Inclusion(
        tx_hash=str(value.get("transactionHash")),
        block_number=quantity(value.get("blockNumber")),
        block_hash=str(value.get("blockHash")),
        succeeded=quantity(value.get("status")) == 1,
        gas_used=quantity(value.get("gasUsed")),
    )


def judge(inclusion: Inclusion | None, canonical: Block | None, *, head: int, confirmations: int) -> Sight:
    """Judge a receipt against the block that the chain has at its height.

    A block has one confirmation when it is the head.
    """
    if inclusion is None or canonical is None or canonical.hash != inclusion.block_hash:
        return Sight.NOTHING
    depth = head - inclusion.block_number + 1
    return Sight.DEEP if depth >= confirmations else Sight.MINED


def judge_kept(block_hash: str, canonical: Block | None) -> Sight:
    """Judge a block seen before: reversed only where the chain names *another* block at its height.

    A node that is behind or silent names none, and that reverses nothing.
    """
    if canonical is None:
        return Sight.NOTHING
    return Sight.MINED if canonical.hash == block_hash else Sight.REVERSED


def _mapping(answer: Any) -> Mapping[str, Any]:
    if not isinstance(answer, dict):
        raise RpcUnreachable("the node's answer is not an object")
    return answer
