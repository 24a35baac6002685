"""The house's sender on a node of its own, with a key that has funds."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from pytest_django import Settings

from receipts.chain.client import Rpc
from receipts.chain.sender import SenderReport, intend, turn
from receipts.keys import Secp256k1Signer
from receipts.models import ChainTransaction
from tests.receipts.chain.node import CHAIN_ID, Node, running_node

SENDER_SECRET = b"\x33" * 32


@pytest.fixture
def node() -> Iterator[Node]:
    """Run a node that mines on command."""
    with running_node() as running:
        yield running


@pytest.fixture
def sender(node: Node, settings: Settings, monkeypatch: pytest.MonkeyPatch, db: None) -> Secp256k1Signer:
    """Fund the sender's key and point the house at the node."""
    signer = Secp256k1Signer(SENDER_SECRET)
    monkeypatch.setenv("TALLYSTICK_KEY_SENDER", f"secp256k1:0x{SENDER_SECRET.hex()}")
    settings.CHAIN_RPC_URL = node.url
    settings.CHAIN_ID = CHAIN_ID
    settings.CONFIRMATIONS = 3
    settings.CHAIN_FEE_CAP_GWEI = 500
    settings.CHAIN_FEE_BUMP_SECONDS = 3600
    node.fund(signer.address)
    return signer


@dataclass
class House:
    """Ada's wishes, and how they fare."""

    node: Node
    sender: Secp256k1Signer
    rpc: Rpc

    def wish(self, count: int = 1, stem: str = "wish") -> list[ChainTransaction]:
        """Intend transactions that leave a trace on the chain: one wei each to an address of its own."""
        return [
            intend(purpose="commit", key=f"{stem}-{index}", to=f"0xada{index + 1:037x}", data=b"", value=1)
            for index in range(count)
        ]

    def turn(self, rpc: Rpc | None = None, *, blocks: int = 0) -> SenderReport:
        """Make blocks, then take one turn."""
        if blocks:
            self.node.mine(blocks)
        return turn(rpc=rpc or self.rpc)

    def until(self, done: Callable[[], bool], rpc: Rpc | None = None, *, turns: int = 40) -> int:
        """Take turns, a block between each, until something is so; give how many it took."""
        for taken in range(turns):
            if done():
                return taken
            self.turn(rpc, blocks=1)
        raise AssertionError(f"not so after {turns} turns: {self.states()}")

    def states(self) -> list[str]:
        """Give the states of all transactions, in the order of their intents."""
        return list(ChainTransaction.objects.order_by("id").values_list("state", flat=True))

    def all_final(self) -> bool:
        """Tell whether every transaction is final."""
        return set(self.states()) == {"final"}

    def landed(self, wish: ChainTransaction) -> int:
        """Count how often a wish stands on the chain: by what its address received."""
        return int(self.node.ask("eth_getBalance", wish.to, "latest"), 16)


@pytest.fixture
def house(node: Node, sender: Secp256k1Signer) -> House:
    """Give the house that sends."""
    return House(node, sender, node.rpc())
