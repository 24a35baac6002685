"""The house's sender and node, as the chain's tests have them."""

from tests.receipts.chain.conftest import house, node, sender

__all__ = ["house", "node", "sender"]
