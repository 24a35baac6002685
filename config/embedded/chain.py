"""Run an EVM node of our own (anvil) in `<data dir>/chain`, on a private chain id.

anvil writes its state every few seconds, not atomically: a kill in the middle cuts the file off, so
a copy of the last whole state lies beside it. What a kill -9 loses is a few seconds of blocks; the
sender keeps its signed transactions and sends them again.

The node has no accounts of its own: a well-known key with money in it would let anyone who reaches
the port act. It has no `--preserve-historical-states` either: measured, that adds 120 kB a block to a
file that is rewritten every five seconds, where blocks and transactions alone add 1.6 kB.
"""

import contextlib
import json
import os
import shutil
import socket
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from signal import Signals
from typing import Any

from config.embedded import anvil, process
from config.embedded.process import HouseProblem, Program, Running

CHAIN_ID = 31337  # private: what is signed for it is worth nothing on a public network
BLOCK_SECONDS = 1
STATE_SECONDS = 5
GAS_LIMIT = 20_000_000


@dataclass(frozen=True)
class Chain:
    """A running node."""

    running: Running
    port: int

    @property
    def pid(self) -> int:
        return self.running.pid

    @property
    def url(self) -> str:
        return url(self.port)

    def stop(self) -> None:
        self.running.stop()


def start(data_dir: Path, *, port: int | None = None) -> Chain:
    """Start a node, at a free port of this machine unless one is given."""
    chosen = port or free_port()
    return Chain(process.start(program(data_dir, port=chosen), data_dir), chosen)


def url(port: int) -> str:
    return f"http://127.0.0.1:{port}"


def program(data_dir: Path, *, port: int, block_seconds: int = BLOCK_SECONDS) -> Program:
    """Describe the node for the supervisor."""
    folder = data_dir / "chain"
    state, copy = folder / "state.json", folder / "state.copy.json"
    return Program(
        name="chain",
        argv=(
            str(anvil.binary()),
            *("--host", "127.0.0.1", "--port", str(port), "--no-cors", "--quiet"),
            *("--chain-id", str(CHAIN_ID), "--hardfork", "cancun", "--accounts", "0"),
            *("--block-time", str(block_seconds), "--gas-limit", str(GAS_LIMIT)),
            *("--state", str(state), "--state-interval", str(STATE_SECONDS)),
        ),
        ready=lambda: answers(url(port)),
        prepare=lambda: _prepare(state, copy),
        tend=Keeper(state, copy).tend,
        stop_signal=Signals.SIGINT,
        stop_seconds=20,
    )


def answers(rpc_url: str) -> bool:
    """Tell whether our node answers there."""
    try:
        return bool(call(rpc_url, "eth_chainId") == hex(CHAIN_ID))
    except (OSError, ValueError, HouseProblem):
        return False


def fund(rpc_url: str, address: str, wei: int) -> None:
    """Give an account of the private chain money to send transactions with."""
    call(rpc_url, "anvil_setBalance", address, hex(wei))


def call(rpc_url: str, method: str, *params: object) -> Any:
    """Ask the node. Raises: HouseProblem with its words when it refuses."""
    asked = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
    request = urllib.request.Request(rpc_url, asked, {"Content-Type": "application/json"})  # noqa: S310 - our node
    # No proxy of the environment may stand between us and a node on this machine.
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=10) as answer:
        told = json.load(answer)
    if "error" in told:
        raise HouseProblem(f"the chain refused {method}: {told['error'].get('message')}")
    return told["result"]


def free_port() -> int:
    """Find a port of this machine that nobody listens on."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


class Keeper:
    """Keep a copy of the last state that was written to its end."""

    def __init__(self, state: Path, copy: Path) -> None:
        self._state, self._copy = state, copy
        self._seen: tuple[int, int] | None = None

    def tend(self) -> None:
        try:
            found = self._state.stat()
        except FileNotFoundError:
            return
        now = (found.st_mtime_ns, found.st_size)
        if self._seen == now and _newer(self._state, self._copy):  # it stood still since the last look: written out
            keep_copy(self._state, self._copy)
        self._seen = now


def keep_copy(state: Path, copy: Path) -> bool:
    """Replace the copy by the state, if that is whole."""
    making = copy.with_suffix(".making")
    shutil.copyfile(state, making)
    if not is_whole(making):
        making.unlink()
        return False
    os.utime(making, ns=(state.stat().st_atime_ns, state.stat().st_mtime_ns))
    making.rename(copy)
    return True


def is_whole(state: Path) -> bool:
    """Tell whether a state file was written to its end."""
    try:
        json.loads(state.read_bytes())
    except (ValueError, FileNotFoundError):
        return False
    return True


def _newer(one: Path, other: Path) -> bool:
    return not other.exists() or one.stat().st_mtime_ns > other.stat().st_mtime_ns


def _prepare(state: Path, copy: Path) -> None:
    state.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        copy.with_suffix(".making").unlink()
    if not state.exists():
        if copy.exists():
            shutil.copyfile(copy, state)
        return
    if keep_copy(state, copy):
        return
    if not is_whole(copy):
        raise HouseProblem(
            f"the chain's state {state} is cut off and has no whole copy; remove {state.parent} for a new chain"
        )
    # anvil died while it wrote: what came after the copy is lost, and is sent again from stored transactions.
    shutil.copyfile(copy, state)
