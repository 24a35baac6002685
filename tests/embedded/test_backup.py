"""A house is backed up and stands again elsewhere, with the commands that its operator types."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from config import backup
from receipts.keys import ed25519_signer, make_key_file
from receipts.log import found_log
from receipts.models import PublicKey

PROJECT = Path(__file__).resolve().parents[2]
ORIGIN = "tests.invalid/backup"
FOUND = "from receipts.log import found_log; from django.conf import settings; found_log(settings.LOG_ORIGIN)"
GROW = """
from django.db import transaction
from receipts.log import turn
from receipts.record import record
from receipts.models import LogHead
size = LogHead.objects.get().size
for n in range(size, size + {count}):
    with transaction.atomic():
        record(event_type="AdminAction", subject=f"act:{{n}}", tenant_id=None, actor="operator:cy",
               data={{"action": "looked", "by": "A" * 43, "count": n}})
print(turn().published)
"""
KEEP = """
import io
from pathlib import Path
from provenance.store import house_store
print(house_store().put(io.BytesIO(b"a picture")).sha256)
"""


class House:
    """One house of a log: a database, a store and tiles of its own, its operator's shell."""

    def __init__(self, folder: Path, database: str, keys: Path) -> None:
        self.folder, self.database = folder, database
        self.env = os.environ | {
            "TALLYSTICK_DATA_DIR": str(folder),
            "TALLYSTICK_KEYS_DIR": str(keys),
            "DATABASE_URL": database,
            "DATABASE_OWNER_URL": database,
            "LOG_ORIGIN": ORIGIN,
            "CHECKPOINT_SECONDS": "0",
            "CHAIN_RPC_URL": "",
            "DJANGO_SETTINGS_MODULE": "config.settings",
        }

    def manage(self, *words: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "manage.py", *words],
            cwd=PROJECT,
            env=self.env,
            capture_output=True,
            text=True,
            check=False,
        )

    def run(self, code: str) -> str:
        code = f"import django; django.setup()\n{code}"
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=PROJECT, env=self.env, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def grow(self, count: int) -> int:
        return int(self.run(GROW.format(count=count)))

    @property
    def checkpoint(self) -> bytes:
        return (self.folder / "tlog" / "checkpoint").read_bytes()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("backup")


@pytest.fixture(scope="module")
def new_house(folder: Path) -> Iterator[Callable[[str], House]]:
    """Make houses that share their keys, each with an empty database of its own."""
    keys, server, made = folder / "keys", os.environ["DATABASE_URL"], list[str]()
    make_key_file(keys / "log.key", "ed25519")

    def make(name: str) -> House:
        database = f"backup_{name}_{os.getpid()}"
        with psycopg.connect(server, autocommit=True) as asked:
            asked.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(database)))
        made.append(database)
        (folder / name).mkdir()
        return House(folder / name, server.replace("/tallystick?", f"/{database}?"), keys)

    yield make
    with psycopg.connect(server, autocommit=True) as asked:
        for database in made:
            asked.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(database)))


@pytest.fixture(scope="module")
def lived_in(new_house: Callable[[str], House], folder: Path) -> House:
    """A house with 300 leaves and a blob, backed up in `copy`, that went on to 307."""
    house = new_house("first")
    assert house.manage("migrate", "-v0").returncode == 0
    house.run(FOUND)
    assert house.grow(300) == 300
    house.run(KEEP)
    made = house.manage("backup", str(folder / "copy"), "--json")
    assert made.returncode == 0, made.stderr
    told = json.loads(made.stdout)
    assert (told["log"], told["size"]) == (ORIGIN, 300)
    assert house.grow(7) == 307
    return house


@pytest.fixture(scope="module")
def copy(lived_in: House, folder: Path) -> Path:
    return folder / "copy"


def test_a_house_stands_again_from_its_backup_and_goes_on(
    copy: Path, lived_in: House, new_house: Callable[[str], House]
) -> None:
    other = new_house("second")
    keys, other.env["TALLYSTICK_KEYS_DIR"] = other.env["TALLYSTICK_KEYS_DIR"], str(copy)
    without = other.manage("restore", str(copy))
    assert without.returncode == 1
    assert "keys are in no backup" in without.stderr
    assert not list(copy.rglob("*.key"))

    other.env["TALLYSTICK_KEYS_DIR"] = keys
    restored = other.manage("restore", str(copy), "--json")  # goes on where it was interrupted
    assert restored.returncode == 0, restored.stderr
    assert json.loads(restored.stdout) == {"log": ORIGIN, "size": 300, "published": 300, "may_append": True}
    assert other.checkpoint == (copy / "tlog" / "checkpoint").read_bytes()
    blob = hashlib.sha256(b"a picture").hexdigest()
    kept = f"from provenance.store import house_store; print(house_store().path_of('{blob}').read_bytes())"
    assert other.run(kept) == "b'a picture'"
    assert other.grow(5) == 305
    # The database still guards its evidence: triggers came along.
    with psycopg.connect(other.database) as asked, pytest.raises(psycopg.errors.IntegrityConstraintViolation):
        asked.execute("UPDATE receipts_receipt SET seq = 9")


def test_a_restored_older_database_may_not_append(
    copy: Path, lived_in: House, new_house: Callable[[str], House]
) -> None:
    other = new_house("older")
    shutil.copytree(lived_in.folder / "tlog", other.folder / "tlog")  # what was published is still there
    restored = other.manage("restore", str(copy), "--json")
    assert json.loads(restored.stdout) == {"log": ORIGIN, "size": 300, "published": 307, "may_append": False}
    assert other.checkpoint == lived_in.checkpoint
    with pytest.raises(AssertionError, match="LogIsOlder"):
        other.grow(1)


@pytest.mark.parametrize("what", ["database.dump", "tlog/checkpoint", "store"])
def test_a_damaged_backup_is_refused_before_anything_is_written(
    what: str, copy: Path, new_house: Callable[[str], House], tmp_path: Path
) -> None:
    damaged = tmp_path / "damaged"
    shutil.copytree(copy, damaged)
    victim = (
        damaged / what if what != "store" else next(path for path in (damaged / "store").rglob("*") if path.is_file())
    )
    victim.chmod(0o600)
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 1
    victim.write_bytes(data)
    other = new_house("damaged" + what[:5])
    refused = other.manage("restore", str(damaged))
    assert refused.returncode == 1
    assert str(victim.relative_to(damaged)) in refused.stderr
    assert "Traceback" not in refused.stderr
    assert not (other.folder / "tlog").exists()
    with psycopg.connect(other.database) as asked:
        assert asked.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone() == (0,)


def test_a_backup_is_checked_without_being_restored(copy: Path, lived_in: House) -> None:
    held = lived_in.manage("backup", str(copy), "--check")
    assert held.returncode == 0, held.stderr
    assert "300 leaves" in held.stdout


def test_a_database_that_holds_something_else_is_left_alone(copy: Path, lived_in: House) -> None:
    refused = lived_in.manage("restore", str(copy))
    assert refused.returncode == 1
    assert "307 leaves: restore into an empty one" in refused.stderr


def test_a_backup_is_never_written_over(copy: Path, lived_in: House) -> None:
    again = lived_in.manage("backup", str(copy))
    assert again.returncode == 1
    assert "is there already" in again.stderr


@pytest.mark.django_db
def test_a_key_that_was_rotated_in_is_the_logs_too(settings: Any, tmp_path: Path) -> None:
    settings.KEYS_DIR = tmp_path / "keys"
    key = settings.KEYS_DIR / "log.key"
    make_key_file(key, "ed25519")
    found_log(ORIGIN)
    backup._require_log_key()
    key.unlink()
    make_key_file(key, "ed25519")
    with pytest.raises(backup.BackupProblem, match="none of this log's"):
        backup._require_log_key()
    follower = ed25519_signer("log", settings.KEYS_DIR).key_id
    PublicKey.objects.create(role="log", alg="Ed25519", key_id=follower, since_leaf=1)
    backup._require_log_key()  # before it has signed its first checkpoint
