"""An adversary's script: what a chain and the way to it do wrong, all of it drawn from one seed.

Each script has a mood of its own: a few kinds of mischief, each with its own chance, and what happens to the chain
between two turns. A real anvil stands behind the proxy; nothing of its answers is invented but what the script names.
"""

import json
import random
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import requests

from receipts.chain.client import Rpc
from tests.receipts.chain.node import CHAIN_ID, Node, serving

CLIENT_PATIENCE_SECONDS = 0.4
HANG_SECONDS = 0.6
GWEI = 10**9

# What may go wrong with one request, and with one answer in it.
WIRE = ("drop_before", "drop_after", "busy", "hang", "throttled", "garbage")
ANSWERS = (
    "null_receipt",
    "null_block",
    "stale_nonce",
    "high_nonce",
    "wrong_chain",
    "unknown_transaction",
    "underpriced",
)
# What may happen to the chain between two turns.
EVENTS = ("reorg", "base_fee_jump", "forgotten_pool", "bump", "burst", "silence", "mempool_refused")


@dataclass
class Script:
    """One adversary. `counts` says what it did; when `calm` it does nothing any more."""

    seed: int
    calm: bool = False
    counts: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.dice = random.Random(self.seed)
        self._lock = threading.Lock()
        self.confirmations = self.dice.choice((1, 2, 3, 6))
        self.wishes = self.dice.randint(3, 25)
        self.turns = self.dice.randint(8, 16)
        self.mood = {name: self.dice.choice((0.03, 0.1, 0.25)) for name in self.dice.sample((*WIRE, *ANSWERS), 5)}
        self.events = {name: self.dice.choice((0.15, 0.4)) for name in self.dice.sample(EVENTS, 3)}
        self.refusing = False

    def happens(self, name: str) -> bool:
        """Throw the dice for one mischief."""
        with self._lock:
            if self.calm or self.dice.random() >= self.mood.get(name, 0):
                return False
            self.counts[name] += 1
            return True

    def due(self, name: str) -> bool:
        """Throw the dice for one event between turns."""
        if self.dice.random() >= self.events.get(name, 0):
            return False
        self.counts[name] += 1
        return True

    def twist(self, method: str, params: list[Any], answer: dict[str, Any]) -> dict[str, Any]:
        """Change one answer, or leave it."""
        told = answer.get("result")
        if method == "eth_getTransactionReceipt" and told and self.happens("null_receipt"):
            return {"result": None}
        if method == "eth_getBlockByNumber" and params[0] != "latest" and self.happens("null_block"):
            return {"result": None}
        if method == "eth_getTransactionByHash" and told and self.happens("unknown_transaction"):
            return {"result": None}
        if method == "eth_getTransactionCount" and told and params[1] == "latest":
            if self.happens("stale_nonce"):
                return {"result": hex(self.dice.randint(0, int(told, 16)))}
            if self.happens("high_nonce"):
                return {"result": hex(int(told, 16) + self.dice.randint(1, 40))}
        if method == "eth_chainId" and self.happens("wrong_chain"):
            return {"result": hex(self.dice.choice((1, 10507)))}
        return answer

    def refusal(self, method: str) -> dict[str, Any] | None:
        """Refuse to take a transaction, with what nodes really say."""
        if method != "eth_sendRawTransaction":
            return None
        if self.happens("underpriced"):
            return {"error": {"code": -32000, "message": "replacement transaction underpriced"}}
        if self.refusing and not self.calm:
            return {"error": {"code": -32000, "message": "txpool is full"}}
        return None

    def between_turns(self, node: Node, pool: list[str]) -> bool:
        """Let the chain do what the script says before the next turn; tell whether fees are bumped in it."""
        if self.due("reorg"):
            depth = min(self.dice.randint(1, 20), node.head() - 1)
            node.ask("anvil_reorg", depth, [])
            self.counts["reorged_blocks"] += depth
        if self.due("forgotten_pool") and pool:
            for name in self.dice.sample(pool, self.dice.randint(1, len(pool))):
                node.ask("anvil_dropTransaction", name)
        self.refusing = self.due("mempool_refused")
        if self.due("base_fee_jump"):
            node.ask("anvil_setNextBlockBaseFeePerGas", hex(self.dice.choice((1, 3, 20, 90, 400)) * GWEI))
        blocks = self.dice.randint(5, 30) if self.due("burst") else 0 if self.due("silence") else 1
        if blocks:
            node.mine(blocks)
        return self.due("bump")


@contextmanager
def scripted(node: Node, script: Script) -> Iterator[Rpc]:
    """Put the script between a client and the node."""

    def batch(body: bytes) -> tuple[int, bytes] | None:
        if script.happens("drop_before"):
            return None
        if script.happens("busy"):
            return 429, b""
        if script.happens("hang"):
            threading.Event().wait(HANG_SECONDS)  # the client gave up meanwhile, and the node hears of it all the same
        items = json.loads(body)
        if script.happens("throttled"):
            error = {"code": -32005, "message": "limit exceeded"}
            return 200, json.dumps([{"jsonrpc": "2.0", "id": item["id"], "error": error} for item in items]).encode()
        answers = [_one(item) for item in items]
        if script.happens("drop_after"):
            return None
        if script.happens("garbage"):
            return 200, b"<html>busy</html>"
        return 200, json.dumps(answers).encode()

    def _one(item: dict[str, Any]) -> dict[str, Any]:
        method, params = item["method"], item["params"]
        told = script.refusal(method)
        if told is None:
            answer: dict[str, Any] = requests.post(node.url, json=item, timeout=10).json()
            told = script.twist(method, params, {key: answer[key] for key in ("result", "error") if key in answer})
        return {"jsonrpc": "2.0", "id": item["id"], **told}

    with serving(batch) as url:
        yield Rpc(url, timeout_seconds=CLIENT_PATIENCE_SECONDS, sleep=lambda _: None)


__all__ = ["CHAIN_ID", "Script", "scripted"]
