"""A real EVM node for one test file, and a proxy in front of it that loses, delays and denies."""

import json
import random
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import requests

from config.embedded import anvil
from config.embedded.chain import free_port
from receipts.chain.client import Rpc

CHAIN_ID = 31337
REGISTER = Path(__file__).parent.parent.parent.parent / "receipts/contracts/CommitRegister.json"
ETHER = 10**18


@dataclass(frozen=True)
class Node:
    """An anvil that mines only when it is told to, so that no test waits for a block."""

    url: str

    def ask(self, method: str, *params: Any) -> Any:
        """Ask the node itself, past any proxy."""
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": list(params)}
        answer = requests.post(self.url, json=body, timeout=10).json()
        assert "error" not in answer, answer["error"]
        return answer["result"]

    def rpc(self) -> Rpc:
        """Give a client of the house's own make."""
        return Rpc(self.url, sleep=lambda _: None)

    def mine(self, blocks: int = 1) -> None:
        """Make blocks."""
        self.ask("anvil_mine", hex(blocks))

    def fund(self, address: str, wei: int = 100 * ETHER) -> None:
        """Set a balance."""
        self.ask("anvil_setBalance", address, hex(wei))

    def put_register(self, address: str) -> None:
        """Let the house's register stand at an address."""
        self.ask("anvil_setCode", address, json.loads(REGISTER.read_text())["deployed_bytecode"])

    def nonce(self, address: str) -> int:
        """Count what an account has sent."""
        return int(self.ask("eth_getTransactionCount", address, "latest"), 16)

    def head(self) -> int:
        """Give the newest block's number."""
        return int(self.ask("eth_blockNumber"), 16)


@contextmanager
def running_node(*arguments: str, chain_id: int = CHAIN_ID) -> Iterator[Node]:
    """Run an anvil on a free port until the block ends."""
    port = free_port()
    options = ["--chain-id", str(chain_id), "--hardfork", "cancun", "--no-mining", "--gas-limit", "20000000"]
    process = subprocess.Popen(
        [anvil.binary(), "--silent", "--host", "127.0.0.1", "--port", str(port), *options, *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    node = Node(f"http://127.0.0.1:{port}")
    try:
        _wait_for_answer(node, process)
        yield node
    finally:
        process.kill()
        process.wait()


def _wait_for_answer(node: Node, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + 20
    while True:
        try:
            node.ask("eth_chainId")
            return
        except requests.ConnectionError:
            assert process.poll() is None, "anvil ended before it answered"
            assert time.monotonic() < until, "anvil does not answer"
            time.sleep(0.02)


@dataclass
class Faults:
    """What the proxy does wrong, each with its own chance; `deny` looks at single requests."""

    drop_before: float = 0
    drop_after: float = 0
    null_receipt: float = 0
    busy: float = 0
    seed: int = 0
    deny: Callable[[str, list[Any]], Any] = field(default=lambda method, params: None)
    counts: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.dice = random.Random(self.seed)

    def happens(self, name: str) -> bool:
        """Throw the dice for one fault."""
        if self.dice.random() >= getattr(self, name):
            return False
        self.counts[name] = self.counts.get(name, 0) + 1
        return True


@contextmanager
def lying_proxy(node: Node, faults: Faults) -> Iterator[Rpc]:
    """Put a proxy before the node and give a client that goes through it."""

    def batch(body: bytes) -> tuple[int, bytes] | None:
        if faults.happens("drop_before"):
            return None
        if faults.happens("busy"):
            return 429, b""
        answers = [_one(item) for item in json.loads(body)]
        if faults.happens("drop_after"):
            return None
        return 200, json.dumps(answers).encode()

    def _one(item: dict[str, Any]) -> dict[str, Any]:
        denied = faults.deny(item["method"], item["params"])
        if denied is not None:
            return {"jsonrpc": "2.0", "id": item["id"], **denied}
        answer: dict[str, Any] = requests.post(node.url, json=item, timeout=10).json()
        if item["method"] == "eth_getTransactionReceipt" and faults.happens("null_receipt"):
            answer["result"] = None
        return answer

    with serving(batch) as url:
        yield Rpc(url, timeout_seconds=5, sleep=lambda _: None)


@contextmanager
def serving(batch: Callable[[bytes], tuple[int, bytes] | None]) -> Iterator[str]:
    """Serve HTTP on a free port: a request's body gives status and content, or None to hang up without a word."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            """Answer, or don't."""
            told = batch(self.rfile.read(int(self.headers["Content-Length"])))
            try:
                self._hang_up() if told is None else self._answer(*told)
            except OSError:
                self.close_connection = True  # the client gave up, or died, before its answer came

        def _hang_up(self) -> None:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)

        def _answer(self, status: int, content: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it so
            """Say nothing."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            """Say nothing of a client that died; of all else as usual."""
            if not isinstance(sys.exception(), ConnectionError):
                super().handle_error(request, client_address)

    server = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
