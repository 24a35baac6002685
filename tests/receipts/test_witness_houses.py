"""Two houses, two databases, two processes: each cosigns the other's log, and a fork of one is refused by the other."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.core.management import call_command
from pytest_django.live_server_helper import LiveServer

from config import founding
from config.embedded import chain
from config.embedded import house as standing
from jobs.client import cli
from jobs.client.http import TallystickClient
from jobs.client.promises import keep_promise
from jobs.client.trust import fingerprint
from receipts import cosigners, log, witness
from receipts.keys import ed25519_signer
from receipts.models import Checkpoint, Cosignature, WitnessAlarm, WitnessedLog
from tests.jobs.api.house import house, house_folder
from tests.jobs.client.test_live import done, key_of
from tests.receipts.test_cosigners import due
from tests.receipts.test_log import receipts

__all__ = ["house", "house_folder"]
pytestmark = pytest.mark.django_db(transaction=True)
ROOT = Path(__file__).resolve().parents[2]
TURN = (
    "import django; django.setup()\n"
    "from receipts import cosigners, log\n"
    "log.turn(); print([told.words for told in cosigners.turn()]); log.turn()"
)


@dataclass
class Bo:
    """Bo's house: its environment and its address."""

    env: dict[str, str]
    url: str

    def manage(self, *words: str) -> str:
        return self.run(str(ROOT / "manage.py"), *words)

    def run(self, *words: str, **more: str) -> str:
        given = [sys.executable, *words]
        told = subprocess.run(
            given, cwd=ROOT, env=self.env | more, capture_output=True, text=True, timeout=120, check=False
        )
        assert told.returncode == 0, told.stderr[-2000:]
        return told.stdout.strip()

    @property
    def entry(self) -> str:
        return f"{self.manage('witness', 'vkey')}@{self.url}/tlog/witness"


@pytest.fixture(scope="module")
def bo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bo]:
    """Found Bo's house on a database of its own and let its web server answer."""
    folder, port, name = tmp_path_factory.mktemp("bo"), chain.free_port(), f"bo_{os.getpid()}"
    url = os.environ["DATABASE_URL"]
    path, mark, query = url.partition("?")
    env = {
        **os.environ,
        "DATABASE_URL": f"{path.rpartition('/')[0]}/{name}{mark}{query}",
        "TALLYSTICK_DATA_DIR": str(folder),
        "DJANGO_SETTINGS_MODULE": "config.settings",
        "LOG_ORIGIN": "bo.invalid/log",
        "CHAIN_RPC_URL": "",
        "CACHE_URL": "",
        "CHECKPOINT_SECONDS": "0",
        "PUBLIC_URL": f"http://127.0.0.1:{port}",
    }
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    given = Bo(env, f"http://127.0.0.1:{port}")
    given.manage("migrate", "--verbosity", "0")
    given.manage("found_house")
    web = [sys.executable, "-m", "gunicorn", "config.wsgi", "-b", f"127.0.0.1:{port}", "--no-control-socket"]
    with (
        (folder / "web.log").open("wb") as out,
        subprocess.Popen(web, cwd=ROOT, env=env, stdout=out, stderr=out) as server,
    ):
        try:
            until = time.monotonic() + 60
            while not standing.serves(f"{given.url}/tlog/checkpoint"):
                assert server.poll() is None and time.monotonic() < until, (folder / "web.log").read_text()[-2000:]
                time.sleep(0.1)
            yield given
        finally:
            server.terminate()
            server.wait(20)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def watch_each_other(bo: Bo, settings: Any) -> None:
    """Let each house name the other's log; Ada's counts on Bo's word."""
    bo.manage("witness", "add-log", "--vkey", str(log.current_vkey()), "--url", "http://ada.invalid")
    settings.WITNESSES, settings.WITNESS_QUORUM, settings.WITNESS_SECONDS = [bo.entry], 1, 0


def test_two_houses_witness_each_other_and_a_tally_carries_it(
    transactional_db: None,
    house: None,
    bo: Bo,
    live_server: LiveServer,
    settings: Any,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    watch_each_other(bo, settings)
    with TallystickClient(live_server.url, key_of("ada")) as client:
        job = client.submit(
            "text-to-image", {"prompt": "a red circle"}, signer=ed25519_signer("client", settings.KEYS_DIR)
        )
        promises = tmp_path / "promises"
        keep_promise(promises, job.promise, nid=job.nid, job_id=job.job_id, url=live_server.url)
        done(job.job_id)
        log.turn()
        assert [told.words for told in cosigners.turn()] == ["cosigned"]
        log.turn()
        newest = Checkpoint.objects.order_by("-size")[0]
        assert cosigners.is_final(newest)

        kept = client.download(job.job_id, tmp_path)
    root = fingerprint(ed25519_signer("root", settings.KEYS_DIR).key_id)
    client_key = ed25519_signer("client", settings.KEYS_DIR).key_id
    trust = str(tmp_path / "trust.json")
    assert cli.main(["trust", "add", live_server.url, "--root", root, "--client-key", client_key, "-o", trust]) == 0
    capsys.readouterr()
    code = cli.main(["verify", str(kept[0]), "--trust", trust, "--artifact", str(kept[1]), "--json"])
    told = json.loads(capsys.readouterr().out)
    assert code == 0, told
    verdict = next(item for item in told["verdicts"] if item["claim"] == "witnesses")
    assert (verdict["verdict"], verdict["required"]) == ("holds", True)
    assert verdict["detail"].startswith("cosigned by bo.invalid/log/witness at 20")

    # The promise is looked up in the public log, and Bo's cosignature shows that it was there in time.
    assert cli.main(["promises", str(promises), "--trust", trust, "--url", f"{live_server.url}/tlog/"]) == 0
    assert "bo.invalid/log/witness cosigned it at" in capsys.readouterr().out

    # And the other way round: Bo's own log, asked from Bo's process, cosigned by Ada's house.
    published = bo.run("-c", TURN)
    assert published == "[]"
    witness.watch_log(
        vkey=bo.run("-c", "import django; django.setup(); from receipts import log; print(log.current_vkey())")
    )
    mine = f"{witness.witness_vkey()}@{live_server.url}/tlog/witness"
    assert bo.run("-c", TURN, WITNESSES=mine, WITNESS_QUORUM="1") == "['cosigned']"
    assert WitnessedLog.objects.get().size > 0


def test_a_log_that_was_restored_and_went_another_way_is_refused_by_the_other_house(
    transactional_db: None, house: None, bo: Bo, settings: Any, tmp_path: Path
) -> None:
    settings.LOG_ORIGIN = "tests.invalid/forked"
    refound(settings, tmp_path / "first")
    watch_each_other(bo, settings)
    receipts(3)
    log.turn()
    assert cosigners.turn()[0].line
    cosigned = Checkpoint.objects.get()

    # The database is lost, with it what Bo cosigned; the same keys begin another history of the same length.
    refound(settings, tmp_path / "second")
    receipts(3)
    log.turn()
    forked = Checkpoint.objects.get()
    assert (forked.size, bytes(forked.root) != bytes(cosigned.root)) == (cosigned.size, True)
    assert cosigners.turn()[0].words == f"it cosigned another root for {cosigned.size} leaves"
    assert WitnessAlarm.objects.get().kind == "refused" and not Cosignature.objects.exists()
    assert not cosigners.is_final(forked)
    seen = kept_by(bo, "tests.invalid/forked")
    assert (seen["size"], seen["misbehaviours"]) == (cosigned.size, 1)

    # Growing it does not help: no proof leads from what Bo saw to this.
    receipts(2)
    log.turn()
    due()
    assert cosigners.turn()[0].words.startswith("it answers 422")
    assert {row.status for row in WitnessAlarm.objects.all()} == {409, 422}
    assert kept_by(bo, "tests.invalid/forked")["misbehaviours"] == 2


def refound(settings: Any, tlog: Path) -> None:
    """Begin with an empty database and an empty folder of tiles, and the same keys."""
    call_command("flush", interactive=False, verbosity=0)
    settings.TLOG_DIR = tlog
    log.found_log(settings.LOG_ORIGIN)
    founding.register_keys()


def kept_by(bo: Bo, origin: str) -> dict[str, Any]:
    """What Bo's house knows of a log."""
    rows = [json.loads(line) for line in bo.manage("witness", "list", "--json").splitlines()]
    return next(row for row in rows if row["origin"] == origin)
