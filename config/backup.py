"""Keep a copy of a house from which it can stand again: database, store and tiles, never a private key.

    make     the published checkpoint first, then the database, then tiles and blobs
    check    every file against the manifest, which is written last
    restore  check, then the database in one transaction, then blobs and tiles, the published checkpoint last

The order is what makes it whole: a database is never older than the checkpoint kept with it, and tiles and blobs are
only ever added, so those copied later include all that the database names.

A backup is older than the house it was made from. Where the newer checkpoint is still published, it stays, and the log
refuses to append until `recover_log` has settled what lies between.
"""

import hashlib
import json
import os
import re
import secrets
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import psycopg
from django.conf import settings
from django.db import connection, connections
from django.db.migrations.executor import MigrationExecutor

from config.embedded import postgres, process
from receipts.canonical import utc
from receipts.checkpoint import make_vkey
from receipts.durable import fsync_folder, write_durably
from receipts.keys import KeyUnusable, ed25519_signer
from receipts.log import known_vkeys, log_head
from receipts.models import Checkpoint
from receipts.record import database_now

FORMAT: Final = "tallystick-backup/1"
MANIFEST: Final = "manifest.json"
DUMP: Final = "database.dump"
_CHUNK: Final = 1024 * 1024
Say = Callable[[str], None]


class BackupProblem(Exception):
    """A backup can't be made, or one can't be restored here. The message is the whole story, in one line."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a backup holds. `files` maps each path in it to its SHA-256 and size in bytes."""

    format: str
    version: str
    made_at: str
    origin: str
    log_nid: str
    size: int  # leaves of the newest checkpoint in the database
    published: int  # leaves of the checkpoint kept beside it; never more
    files: dict[str, list[Any]]

    @property
    def bytes(self) -> int:
        """How large all files are together."""
        return sum(size for _, size in self.files.values())


def make(into: Path, say: Say) -> Manifest:
    """Make a backup in the folder `into`, which must not exist yet: whole or not at all.

    Raises: BackupProblem.
    """
    if into.exists():
        raise BackupProblem(f"{into} is there already: a backup is never written over")
    draft = into.with_name(f".{into.name}.{secrets.token_hex(4)}")
    draft.mkdir(mode=0o700, parents=True)
    try:
        manifest = _fill(draft, say)
        write_durably(draft / MANIFEST, json.dumps(asdict(manifest), indent=1, sort_keys=True).encode(), mode=0o600)
        draft.rename(into)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    fsync_folder(into.parent)
    return manifest


def _fill(draft: Path, say: Say) -> Manifest:
    head = log_head()
    published = Path(settings.TLOG_DIR) / "checkpoint"
    note = published.read_bytes() if published.exists() else b""
    files: dict[str, list[Any]] = {}
    say("database: dumping")
    _run("pg_dump", _database(), "--format=custom", "--no-owner", f"--file={draft / DUMP}")
    files[DUMP] = _digest(draft / DUMP)
    # Asked after the dump: what is in the dump was signed before, so it has at most this many leaves.
    newest = Checkpoint.objects.order_by("-size").first()
    if note:
        write_durably(draft / "tlog" / "checkpoint", note)
        files["tlog/checkpoint"] = _digest(draft / "tlog" / "checkpoint")
    for kind, root in (("tlog", Path(settings.TLOG_DIR)), ("store", Path(settings.STORE_DIR))):
        count = 0
        for name in _evidence(root):
            if (kind, name) != ("tlog", "checkpoint"):
                files[f"{kind}/{name}"] = _copy(root / name, draft / kind / name)
                count += 1
        say(f"{kind}: {count} files")
    return Manifest(
        format=FORMAT,
        version=settings.VERSION,
        made_at=utc(database_now()),
        origin=head.origin,
        log_nid=head.nid,
        size=newest.size if newest else 0,
        published=_size_of(note) if note else 0,
        files=files,
    )


def check(folder: Path) -> Manifest:
    """Read every byte of a backup and hold it against the manifest.

    Raises: BackupProblem, naming the first file that differs.
    """
    try:
        told = json.loads((folder / MANIFEST).read_bytes())
        manifest = Manifest(**told)
    except OSError as error:
        raise BackupProblem(f"{folder} is no backup: {MANIFEST} can't be read ({error.strerror})") from None
    except (ValueError, TypeError):
        raise BackupProblem(f"{folder} is no backup: its {MANIFEST} can't be understood") from None
    if manifest.format != FORMAT:
        raise BackupProblem(f"{folder} has the format {manifest.format[:40]!r}, this house reads {FORMAT}")
    for name, wanted in manifest.files.items():
        path = folder / name
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise BackupProblem(f"{folder}: {name!r} would lie outside of it")
        if not path.is_file():
            raise BackupProblem(f"{folder}: {name} is missing")
        if (found := _digest(path)) != list(wanted):
            raise BackupProblem(f"{folder}: {name} has {found[1]} bytes of SHA-256 {found[0]}, {wanted} is due")
    return manifest


def restore(folder: Path, say: Say) -> tuple[Manifest, int]:
    """Let a house stand again from a backup, in an empty database; give the manifest and the published size.

    A crash before the database's one commit leaves nothing; after it, the same command goes on with the files.

    Raises: BackupProblem.
    """
    manifest = check(folder)
    say(f"backup of {manifest.made_at}: {len(manifest.files)} files, {manifest.bytes} bytes, all as they were")
    if manifest.origin != settings.LOG_ORIGIN:
        raise BackupProblem(
            f"it is of the log {manifest.origin}: set LOG_ORIGIN to it, here it is {settings.LOG_ORIGIN!r}"
        )
    state = _state_of_database(manifest)
    if state == "empty":
        say("database: restoring")
        _run(
            "pg_restore",
            _database(),
            *("--exit-on-error", "--single-transaction", "--no-owner"),
            last=str(folder / DUMP),
        )
        connections.close_all()
        if pending := _unapplied():
            say(f"database: {pending} migrations of this version are still to be run: manage.py migrate")
    _require_log_key()
    # Blobs before the log moves: a receipt never names bytes that are not here yet.
    for kind, root in (("store", Path(settings.STORE_DIR)), ("tlog", Path(settings.TLOG_DIR))):
        for name in (name for name in manifest.files if name.startswith(f"{kind}/") and name != "tlog/checkpoint"):
            target = root / name.partition("/")[2]
            if not target.exists():
                _copy(folder / name, target)
    return manifest, _publish(folder, manifest, say)


def _publish(folder: Path, manifest: Manifest, say: Say) -> int:
    """Put the backup's checkpoint in place unless a newer one is published still; give the size that stands."""
    kept = Path(settings.TLOG_DIR) / "checkpoint"
    if kept.exists() and (size := _size_of(kept.read_bytes())) > manifest.published:
        say(f"the published checkpoint of {size} leaves stays: it is newer than the backup's {manifest.published}")
        return size
    if "tlog/checkpoint" in manifest.files:
        write_durably(kept, (folder / "tlog" / "checkpoint").read_bytes())
    return manifest.published


def _state_of_database(manifest: Manifest) -> str:
    """Say whether the database is empty or holds this very backup. Raises: BackupProblem for anything else."""
    try:
        with psycopg.connect(_database(), connect_timeout=5) as asked:
            [count] = asked.execute(
                "SELECT count(*) FROM information_schema.tables WHERE table_schema = 'public'"
            ).fetchone() or [0]
            if count == 0:
                return "empty"
            row = asked.execute("SELECT origin, nid FROM receipts_loghead").fetchone()
            last = asked.execute("SELECT max(size) FROM receipts_checkpoint").fetchone() or [0]
    except psycopg.Error as error:
        raise BackupProblem(f"the database can't be asked: {str(error).strip().splitlines()[0]}") from None
    if row == (manifest.origin, manifest.log_nid) and (last[0] or 0) == manifest.size:
        return "restored"  # an earlier run was interrupted after its commit
    held = f"the log {row[0]} at {last[0]} leaves" if row else f"{count} tables"
    raise BackupProblem(f"the database is not empty, it holds {held}: restore into an empty one")


def _require_log_key() -> None:
    """Insist that a key of the log is here. Keys are in no backup. Raises: BackupProblem."""
    head = log_head()
    try:
        mine = make_vkey(head.origin, ed25519_signer("log", settings.KEYS_DIR).public)
    except KeyUnusable as error:
        raise BackupProblem(f"the database is restored; keys are in no backup, bring them back: {error}") from None
    # Any of its keys: the newest checkpoint may be older than the key that was rotated in.
    if mine not in known_vkeys(head):
        raise BackupProblem(f"the database is restored; the log key here is {mine}, which is none of this log's")


def _size_of(note: bytes) -> int:
    """Read the size that a checkpoint tells; whose it is, is asked elsewhere."""
    lines = note.decode("utf-8", "replace").split("\n")
    if len(lines) < 2 or not lines[1].isdigit():
        raise BackupProblem("the published checkpoint is no checkpoint: see manage.py check_log")
    return int(lines[1])


def _unapplied() -> int:
    executor = MigrationExecutor(connection)
    return len(executor.migration_plan(executor.loader.graph.leaf_nodes()))


def _evidence(root: Path) -> Iterator[str]:
    """Name the files below a folder, without drafts and what is on its way in: their names begin with a dot."""
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root)
        if path.is_file() and not path.is_symlink() and not any(part.startswith(".") for part in name.parts):
            yield str(name)


def _copy(source: Path, target: Path) -> list[Any]:
    """Copy a file durably, digesting what is written; give its SHA-256 and size."""
    target.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
    draft = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    digest, size = hashlib.sha256(), 0
    try:
        with source.open("rb") as read, draft.open("wb") as out:
            while chunk := read.read(_CHUNK):
                digest.update(chunk)
                size += out.write(chunk)
            out.flush()
            os.fchmod(out.fileno(), source.stat().st_mode & 0o777)
            os.fsync(out.fileno())
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)
    fsync_folder(target.parent)
    return [digest.hexdigest(), size]


def _digest(path: Path) -> list[Any]:
    with path.open("rb") as read:
        return [hashlib.file_digest(read, "sha256").hexdigest(), path.stat().st_size]


# --- PostgreSQL's own programs -------------------------------------------------------------------


def _database() -> str:
    """Name the database as its owner reaches it, else as this process does."""
    if named := settings.DATABASE_OWNER_URL:
        return named
    parameters = connection.get_connection_params()
    names = ("host", "port", "user", "password", "dbname")
    return psycopg.conninfo.make_conninfo("", **{name: parameters[name] for name in names if parameters.get(name)})


def _run(program: str, url: str, *words: str, last: str = "") -> None:
    """Run one of PostgreSQL's programs. Raises: BackupProblem, with its own last line."""
    parts = psycopg.conninfo.conninfo_to_dict(url)
    # Whoever may list processes reads their words: the password goes by the environment.
    environment = process.environment() | ({"PGPASSWORD": str(parts.pop("password"))} if "password" in parts else {})
    target = psycopg.conninfo.make_conninfo("", **parts)
    with psycopg.connect(url, connect_timeout=5) as asked:
        server = asked.info.server_version // 10_000
    command = [_program(program, server), f"--dbname={target}", *words, *([last] if last else [])]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if line.strip()] or ["it said nothing"]
        raise BackupProblem(f"{program} failed: {next((line for line in lines if 'rror' in line), lines[-1]).strip()}")


def _program(name: str, server: int) -> str:
    """Find a program of PostgreSQL that is not older than the server: older ones refuse to dump it.

    Raises: BackupProblem.
    """
    found = [str(postgres.binary(name)), shutil.which(name)]
    for program in (path for path in found if path and Path(path).exists()):
        told = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout
        if int(re.findall(r"[0-9]+", told + " 0")[0]) >= server:
            return program
    raise BackupProblem(f"no {name} of PostgreSQL {server} or newer is installed here")
