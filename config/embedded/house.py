"""Stand up the embedded house: engines, `house.env`, migrations, founding, then its own processes.

Every step looks before it acts, so that a first start that was interrupted goes on the next time.
"""

import base64
import contextlib
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from config.embedded import chain, postgres, process, redis
from config.embedded.process import HouseProblem, Program, Say
from config.embedded.supervisor import Supervisor, sole_supervisor
from receipts.durable import write_durably

PROJECT = Path(__file__).resolve().parents[2]
BIN = Path(sys.prefix) / "bin"
DEFAULT_PORT = 8000
NEEDED_BYTES = 300_000_000  # a fresh PostgreSQL's data and write-ahead log, with room for a day
ADDRESSES = ("register_address", "token_address", "minter_address")
WEB, BEAT, WORKER = 3, 2, 1  # stages: the engines are 0 and stop last


class PortInUse(HouseProblem):
    """Somebody else listens on the port that was asked for."""


@dataclass(frozen=True)
class House:
    """A house that stands."""

    data_dir: Path
    base_url: str
    founded: dict[str, Any]  # what `found_house` printed
    supervisor: Supervisor
    seconds: float  # from the first engine to the first answer


@contextlib.contextmanager
def standing(data_dir: Path, *, port: int | None, say: Say) -> Iterator[House]:
    """Stand a house up, and stop everything that was started on the way out. Raises: HouseProblem."""
    began = time.monotonic()
    refuse_full_disk(data_dir)
    with sole_supervisor(data_dir, say):
        supervisor = Supervisor(data_dir, say)
        try:
            new_database = not (data_dir / "pg").exists()
            env = _settings(data_dir, port=choose_port(data_dir, port, say), say=say)
            supervisor.start(
                postgres.program(data_dir),
                redis.program(data_dir),
                chain.program(data_dir, port=int(env["CHAIN_RPC_URL"].rpartition(":")[2])),
            )
            say("engines: PostgreSQL, Valkey and an EVM node are up")
            founded = None if new_database else _founded_before(data_dir, env)
            founded = founded or _found(data_dir, env, say)
            supervisor.start(*_own_programs(data_dir, env, queue=founded["queue"]))
            say(f"the house stands at {env['PUBLIC_URL']}")
            yield House(data_dir, env["PUBLIC_URL"], founded, supervisor, time.monotonic() - began)
        finally:
            supervisor.stop()


def refuse_full_disk(data_dir: Path) -> None:
    """Say before anything is half written that there is no room. Raises: HouseProblem."""
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    free = shutil.disk_usage(data_dir).free
    if free < NEEDED_BYTES:
        raise HouseProblem(
            f"no space left: {data_dir} needs {NEEDED_BYTES / 1e6:.0f} MB, and {free / 1e6:.0f} are free"
        )


def choose_port(data_dir: Path, asked: int | None, say: Say) -> int:
    """Give the port that was asked for, else last time's, else the usual one, else a free one.

    Raises: PortInUse for one that was asked for.
    """
    wanted = asked or int(read_env(data_dir).get("WEB_BIND", f":{DEFAULT_PORT}").rpartition(":")[2])
    if is_free(wanted):
        return wanted
    if asked:
        raise PortInUse(f"port {asked} is in use by another program: choose another with --port")
    chosen = chain.free_port()
    say(f"port {wanted} is in use by another program; taking {chosen}")
    return chosen


def is_free(port: int) -> bool:
    """Tell whether a program of this machine could listen on a port now."""
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


# --- house.env ------------------------------------------------------------------------------------


def env_file(data_dir: Path) -> Path:
    return data_dir / "house.env"


def read_env(data_dir: Path) -> dict[str, str]:
    """Read the settings that a data folder keeps."""
    try:
        lines = env_file(data_dir).read_text().splitlines()
    except FileNotFoundError:
        return {}
    pairs = (line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))
    return {name.strip(): value.strip() for name, value in pairs}


def write_env(data_dir: Path, env: dict[str, str]) -> None:
    """Replace the settings that a data folder keeps, whole or not at all; a secret is among them."""
    text = "# Made by manage.py up. Within this house it wins over the environment: change it here.\n"
    text += "".join(f"{name}={value}\n" for name, value in env.items())
    write_durably(env_file(data_dir), text.encode(), mode=0o600)


def _settings(data_dir: Path, *, port: int, say: Say) -> dict[str, str]:
    """Complete `house.env`: what is made once stays, what depends on this start is set anew."""
    kept = read_env(data_dir)
    if not kept:
        say(f"first start: making a house in {data_dir}")
    elif not _founded_mark(data_dir).exists():
        say("the first start was interrupted; going on with it")
    sockets, node_port = process.socket_dir(data_dir), _node_port(kept)
    env = {
        "SECRET_KEY": secrets.token_urlsafe(48),
        # A name that no DNS will ever give to anyone, so that the log can move hosts and keep it.
        "LOG_ORIGIN": f"tallystick.invalid/{base64.b32encode(secrets.token_bytes(10)).decode().lower()}",
        **kept,
        "TALLYSTICK_EMBEDDED": "true",
        "DATABASE_URL": postgres.url(sockets, role=postgres.APPLICATION),
        "DATABASE_OWNER_URL": postgres.url(sockets, role=postgres.OWNER),
        "CELERY_BROKER_URL": redis.broker_url(redis.socket_path(data_dir)),
        "CACHE_URL": redis.cache_url(redis.socket_path(data_dir)),
        "CHAIN_RPC_URL": chain.url(node_port),
        "CHAIN_ID": str(chain.CHAIN_ID),
        "WEB_BIND": f"127.0.0.1:{port}",
        "PUBLIC_URL": f"http://127.0.0.1:{port}",
    }
    write_env(data_dir, env)
    return env


def _node_port(kept: dict[str, str]) -> int:
    last = kept.get("CHAIN_RPC_URL", "").rpartition(":")[2]
    return int(last) if last.isdigit() and is_free(int(last)) else chain.free_port()


# --- migrations and founding ----------------------------------------------------------------------


def _founded_mark(data_dir: Path) -> Path:
    return data_dir / "run" / "founded.json"


def founding_of(data_dir: Path) -> dict[str, Any]:
    """Give what was founded here. Raises: HouseProblem where nothing was, or not to its end."""
    try:
        founded: dict[str, Any] = json.loads(_founded_mark(data_dir).read_text())["founded"]
    except (FileNotFoundError, ValueError):
        raise HouseProblem(f"no house was founded in {data_dir} yet") from None
    return founded


def _founded_before(data_dir: Path, env: dict[str, str]) -> dict[str, Any] | None:
    """Give what an earlier start founded, if by this very code and if the chain still has the contracts.

    Migrating and founding once more would change nothing then, and take half of the time of a start.
    """
    try:
        mark = json.loads(_founded_mark(data_dir).read_text())
    except (FileNotFoundError, ValueError):
        return None
    founded: dict[str, Any] = mark["founded"]
    has_contracts = all(
        chain.call(env["CHAIN_RPC_URL"], "eth_getCode", founded[name], "latest") != "0x" for name in ADDRESSES
    )
    return founded if mark["code"] == _digest_of_founding_code() and has_contracts else None


def _found(data_dir: Path, env: dict[str, str], say: Say) -> dict[str, Any]:
    postgres.make_roles(process.socket_dir(data_dir))
    say("database: migrating")
    _manage(data_dir, {**env, "DATABASE_URL": env["DATABASE_OWNER_URL"]}, "migrate", "--verbosity", "0")
    founded: dict[str, Any] = json.loads(_manage(data_dir, env, "found_house", say=say).splitlines()[-1])
    # A crash right here founds again at the next start, which changes nothing that stands.
    env.update({name.upper(): founded[name] for name in ADDRESSES})
    write_env(data_dir, env)
    mark = {"code": _digest_of_founding_code(), "founded": founded}
    write_durably(_founded_mark(data_dir), json.dumps(mark).encode(), mode=0o600)
    return founded


def _digest_of_founding_code() -> str:
    code = [PROJECT / "config" / "founding.py", PROJECT / "config" / "requirements" / "main.txt"]
    code += sorted(PROJECT.glob("*/migrations/*.py"))
    return sha256(b"".join(sha256(file.read_bytes()).digest() for file in code)).hexdigest()


def _manage(data_dir: Path, env: dict[str, str], *words: str, say: Say | None = None) -> str:
    """Run one of our own commands; its stderr is progress, its stdout the answer. Raises: HouseProblem."""
    with subprocess.Popen(
        [sys.executable, str(PROJECT / "manage.py"), *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=PROJECT,
        env=_environment(data_dir, env),
    ) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        lines = []
        for line in running.stderr:
            lines.append(line)
            if say is not None and not line.startswith((" ", "Traceback")):
                say(f"  {line.rstrip()}")
        answer = running.stdout.read()
    if running.returncode != 0:
        log = data_dir / "logs" / f"{words[0]}.log"
        log.write_text("".join(lines))
        raise HouseProblem(f"{words[0]} failed: {process.last_line(log)} (log: {log})")
    return answer


def _environment(data_dir: Path, env: dict[str, str]) -> dict[str, str]:
    ours = {"TALLYSTICK_DATA_DIR": str(data_dir), "DJANGO_SETTINGS_MODULE": "config.settings", "PYTHONUNBUFFERED": "1"}
    return process.environment() | env | ours


# --- our own processes ----------------------------------------------------------------------------


def _own_programs(data_dir: Path, env: dict[str, str], *, queue: str) -> list[Program]:
    environment = _environment(data_dir, env)
    celery = (str(BIN / "celery"), "-A", "config")
    worker = (*celery, "worker", "--loglevel", "INFO", "--without-gossip", "--without-mingle")
    schedule = data_dir / "run" / "beat"
    # One thread for each process on a small machine: two torch threads beside a busy house slow both.
    threads = str(max(1, (os.cpu_count() or 2) // 2))
    return [
        Program(
            name="web",
            argv=(
                *(str(BIN / "gunicorn"), "config.wsgi", "-w", "2", "-k", "gthread", "--threads", "8"),
                *("-b", env["WEB_BIND"], "--preload", "--graceful-timeout", "5"),
                *("--no-control-socket", "--access-logfile", "-"),
            ),
            env=environment | {"DATABASE_POOL": "true"},
            cwd=PROJECT,
            ready=lambda: serves(f"{env['PUBLIC_URL']}/api/v1/health"),
            ready_seconds=90,
            stage=WEB,
        ),
        Program(
            name="beat",
            argv=(*celery, "beat", "--loglevel", "INFO", "-s", str(schedule), "--pidfile="),
            env=environment,
            cwd=PROJECT,
            ready=lambda: True,
            stage=BEAT,
        ),
        Program(
            name="hub",
            argv=(*worker, "-Q", "hub", "-c", "2", "-n", "hub@house"),
            env=environment,
            cwd=PROJECT,
            ready=lambda: True,
            stage=WORKER,
        ),
        Program(
            name="gpu",
            argv=(*worker, "-Q", queue, "--pool", "solo", "-n", f"{queue}@house"),
            env={"OMP_NUM_THREADS": threads} | environment | {"TALLYSTICK_PROVIDER": queue.removeprefix("provider-")},
            cwd=PROJECT,
            ready=lambda: True,
            stop_seconds=15,
            stage=WORKER,
        ),
    ]


def serves(url: str) -> bool:
    """Tell whether a web server answers there; a refusal is an answer, a failure of its own is none."""
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=5):
            return True
    except urllib.error.HTTPError as answer:
        return answer.code < 500
    except OSError:
        return False
