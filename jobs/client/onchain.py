"""Ask a node what became of a transaction. A node's silence is `unknown`, its word against ours is `broken`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from jobs.client.trust import TrustedChain
from jobs.client.verdicts import Broken, Unknown
from receipts.chain import abi
from receipts.chain.client import CallReverted, ChainError, Rpc, quantity
from receipts.committers.erc7053 import RawTransaction

_TIMEOUT_SECONDS = 10.0
_IS_VALID: Final = "isValidSignature(bytes32,bytes)"
_VALID: Final = abi.selector(_IS_VALID).ljust(32, b"\0")  # 0x1626ba7e, as a word


@dataclass(frozen=True, slots=True)
class Mined:
    """A transaction's receipt as the node tells it."""

    block_number: int
    block_hash: str
    logs: tuple[dict[str, Any], ...]


@dataclass(frozen=True, slots=True)
class Node:
    """A node that serves the trust file's chain, and how deep a block must lie there to count."""

    rpc: Rpc
    confirmations: int

    @classmethod
    def at(cls, url: str, chain: TrustedChain) -> "Node":
        """Open the node that the checker named. Raises: Unknown, also when it serves another chain."""
        rpc = Rpc(url, timeout_seconds=_TIMEOUT_SECONDS)
        try:
            found = rpc.chain_id()
        except ChainError as error:
            raise Unknown(f"the node can't be asked: {error}") from None
        if found != chain.chain_id:
            raise Unknown(f"the node serves chain {found}, {chain.chain_id} is due")
        return cls(rpc, chain.confirmations)

    def mined(self, where: str, raw: RawTransaction) -> Mined:
        """Find a transaction's receipt. Raises: Broken, when the chain does not have it or reverted it; Unknown."""
        try:
            answer = self.rpc.read("eth_getTransactionReceipt", raw.hash)
            pending = None if answer else self.rpc.read("eth_getTransactionByHash", raw.hash)
        except ChainError as error:
            raise Unknown(f"the node can't be asked: {error}") from None
        if answer is None:
            if pending is None:
                raise Broken(where, "the chain knows no such transaction", expected=raw.hash)
            raise Unknown(f"{raw.hash} waits to be mined")
        try:
            if quantity(answer["status"]) != 1:
                raise Broken(where, "the chain reverted it", expected="status 1", found=answer["status"])
            return Mined(quantity(answer["blockNumber"]), str(answer["blockHash"]).lower(), tuple(answer["logs"]))
        except (ChainError, KeyError, TypeError):
            raise Unknown("the node's receipt can't be read") from None

    def require_signed(self, where: str, wallet: str, digest: bytes, signature: bytes, *, block: int | None) -> None:
        """Ask a contract wallet whether it takes a signature for its own, as of a block; without one, now.

        A wallet may change its owners, so what it said at the mint's block counts.
        Raises: Broken, when it does not; Unknown. Source: ERC-1271.
        """
        call = abi.call(_IS_VALID, abi.bytes32(digest), abi.dynamic_bytes(signature))
        at = "latest" if block is None else hex(block)
        try:
            answer = self.rpc.read("eth_call", {"to": wallet, "data": "0x" + call.hex()}, at)
            said = bytes.fromhex(str(answer).removeprefix("0x"))
        except CallReverted:
            said = b"reverted"
        except ChainError as error:
            raise Unknown(f"{where}: the node can't be asked: {error}") from None
        except ValueError:
            raise Unknown(f"{where}: the node's answer can't be read") from None
        if said != _VALID:
            found = said.decode() if said == b"reverted" else "0x" + said.hex() if said else "no contract"
            raise Broken(where, f"the wallet {wallet} does not sign this", expected="0x" + _VALID.hex(), found=found)

    def confirmed(self, mined: Mined) -> str:
        """Insist on the confirmations that the trust file asks for, and tell how many there are. Raises: Unknown."""
        try:
            head = quantity(self.rpc.read("eth_blockNumber"))
            block = self.rpc.read("eth_getBlockByNumber", hex(mined.block_number), False)
        except ChainError as error:
            raise Unknown(f"the node can't be asked: {error}") from None
        if not isinstance(block, dict) or str(block.get("hash")).lower() != mined.block_hash:
            raise Unknown(f"block {mined.block_number} was just reorganised away")
        depth = head - mined.block_number + 1
        if depth < self.confirmations:
            raise Unknown(f"in block {mined.block_number} with {depth} of {self.confirmations} confirmations")
        return f"{depth} confirmations"


def find_log(mined: Mined, address: str, topics: Sequence[str | None]) -> bytes | None:
    """Find the data of the log with exactly these topics of one contract; None when there is none.

    Raises: Unknown, for a log that can't be read.
    """
    for log in mined.logs:
        try:
            same = [str(topic).lower() for topic in log["topics"]] == list(topics)
            if same and str(log["address"]).lower() == address:
                return bytes.fromhex(str(log["data"]).removeprefix("0x"))
        except (KeyError, TypeError, ValueError):
            raise Unknown("the node gave a log that can't be read") from None
    return None
