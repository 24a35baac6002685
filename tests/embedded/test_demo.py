"""`manage.py demo`, `up` and `down` as a person meets them: a first start that is killed, a second that goes on."""

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from config.embedded import chain, process
from receipts.keys import keccak256

ROOT = Path(__file__).resolve().parents[2]
REQUIRED = ("receipts-chain", "request-signed", "work-signed", "inclusion", "anchor", "artifact", "credential", "mint")
SUPPLY = "0x18160ddd"  # the first four bytes of keccak256("totalSupply()")

pytestmark = pytest.mark.chain


@dataclass(frozen=True)
class Told:
    """What the demonstration said."""

    code: int
    stdout: str
    stderr: str

    @property
    def json(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.stdout.splitlines()[-1])
        return found


def command(*words: str, folder: Path) -> list[str]:
    return [sys.executable, str(ROOT / "manage.py"), *words, "--data-dir", str(folder)]


def read_until(running: subprocess.Popen[str], text: str) -> str:
    """Read a program's stderr until a line has the text."""
    assert running.stderr is not None
    said = ""
    for line in running.stderr:
        said += line
        if text in line:
            return said
    raise AssertionError(f"it ended without {text!r}:\n{said}")


def of_house(folder: Path) -> list[int]:
    """List the living processes that the house recorded."""
    records = (process.recorded(record) for record in (folder / "run").glob("*.pid"))
    return [record[0] for record in records if record is not None]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="module")
def told(folder: Path) -> Told:
    """A demonstration whose first start was killed in the middle of founding."""
    with subprocess.Popen(command("demo", folder=folder), stderr=subprocess.PIPE, text=True) as first:
        read_until(first, "certificates")
        first.kill()
    done = subprocess.run(
        command("demo", "--once", "--json", folder=folder), capture_output=True, text=True, check=False
    )
    return Told(done.returncode, done.stdout, done.stderr)


def test_a_killed_first_start_is_told_and_gone_on_with(told: Told) -> None:
    assert told.code == 0, told.stderr[-2000:]
    assert "the last run was killed; going on from what it left" in told.stderr
    assert "the first start was interrupted; going on with it" in told.stderr


def test_every_required_claim_holds(told: Told) -> None:
    assert {name: told.json["verdicts"][name] for name in told.json["required"]} == dict.fromkeys(
        told.json["required"], "holds"
    )
    assert set(REQUIRED) <= set(told.json["required"])
    assert (told.json["verify_exit"], told.json["state"]) == (0, "completed")


def test_each_tampered_copy_is_broken_at_a_named_field(told: Told) -> None:
    copies = told.json["tampered"]
    assert {what: copy["verdict"] for what, copy in copies.items()} == {"picture": "broken", "tally": "broken"}
    assert copies["picture"]["broken"]["artifact"] == "artifact sha256"
    assert "usage" in copies["tally"]["broken"]
    for what, original in (("picture", "artifact_path"), ("tally", "tally_path")):
        pairs = zip(Path(told.json[original]).read_bytes(), Path(copies[what]["path"]).read_bytes(), strict=True)
        assert sum(one != other for one, other in pairs) == 1


def test_the_json_names_all_that_a_program_needs(told: Told) -> None:
    names = (
        "base_url api_key admin_url admin_user admin_password rpc_url chain_id register_address token_address "
        "minter_address job_id job_nid state artifact_path tally_path trust_path receipts checkpoint anchor_tx mint_tx "
        "minted_amount verdicts verify_exit data_dir seconds"
    )
    assert set(names.split()) <= told.json.keys()
    assert set(told.json["checkpoint"]) == {"origin", "size", "root"}
    assert set(told.json["seconds"]) == {"setup", "engines", "job", "verify"}
    assert not told.json["base_url"].endswith("/")
    assert len(told.stdout.splitlines()) == 1


def test_the_story_is_told_in_the_order_in_which_it_happened(told: Told) -> None:
    words = ("submitted", "promise", "scheduled", "started", "progress", "completed", "credential", "usage", "attested")
    places = [told.stderr.index(f"  {word:<11} ") for word in (*words, "leaves", "checkpoint", "anchor", "mint")]
    assert places == sorted(places)
    assert re.search(r"denoising step \d+ of \d+\n", told.stderr)
    assert "no witness vouches for its log and its chain is its own" in told.stderr


def test_nothing_of_it_runs_afterwards(told: Told, folder: Path) -> None:
    assert told.code == 0
    assert of_house(folder) == []


@pytest.fixture(scope="module")
def house(told: Told, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """The same house, up again."""
    assert told.code == 0
    with subprocess.Popen(command("up", folder=folder), stderr=subprocess.PIPE, text=True) as running:
        read_until(running, "Ctrl-C")
        yield running
        running.kill()


def test_up_goes_on_with_the_same_data(told: Told, house: subprocess.Popen[str], folder: Path) -> None:
    env = dict(line.split("=", 1) for line in (folder / "house.env").read_text().splitlines() if "=" in line)
    assert env["LOG_ORIGIN"] == told.json["checkpoint"]["origin"]
    # The chain came back with the anchor and the mint: asked raw, past all of our code.
    committed = keccak256(b"Commit(address,string,string)").hex()
    wanted = {"address": told.json["register_address"], "fromBlock": "0x0", "topics": [f"0x{committed}"]}
    logs = chain.call(env["CHAIN_RPC_URL"], "eth_getLogs", wanted)
    assert told.json["anchor_tx"] in [entry["transactionHash"] for entry in logs]
    supply = chain.call(env["CHAIN_RPC_URL"], "eth_call", {"to": told.json["token_address"], "data": SUPPLY}, "latest")
    assert int(supply, 16) == int(told.json["minted_amount"]) == attested(told)


def test_a_demonstration_in_a_house_that_runs_is_its_client_only(house: subprocess.Popen[str], folder: Path) -> None:
    before = of_house(folder)
    done = subprocess.run(command("demo", "--json", folder=folder), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stderr.startswith("a house runs here already")
    assert json.loads(done.stdout)["verify_exit"] == 0
    assert of_house(folder) == before


def test_down_stops_it_from_another_shell_and_leaves_nothing(house: subprocess.Popen[str], folder: Path) -> None:
    running = of_house(folder)
    assert len(running) == 8  # the supervisor, three engines, web, beat, hub, gpu
    done = subprocess.run(command("down", folder=folder), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "stopped\n")
    assert house.wait(10) == 0
    assert [pid for pid in running if process.birth(pid) is not None] == []


def test_ctrl_c_before_the_house_stands_leaves_nothing(told: Told, folder: Path) -> None:
    assert told.code == 0
    with subprocess.Popen(command("up", folder=folder), stderr=subprocess.PIPE, text=True) as running:
        read_until(running, "engines:")
        engines = of_house(folder)
        running.send_signal(signal.SIGINT)
        assert running.wait(30) == 130
    assert len(engines) >= 4
    assert [pid for pid in engines if process.birth(pid) is not None] == []


def attested(told: Told) -> int:
    """Read the attested amount out of the tally."""
    tally = json.loads(Path(told.json["tally_path"]).read_bytes())
    bodies = [json.loads(entry["bytes"]) for entry in tally["receipts"]]
    return int(next(body["data"]["amount"] for body in bodies if body["eventType"] == "UsageAttested"))
