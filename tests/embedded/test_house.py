"""The house's own settings, port and first start: made once, kept, and gone on with after an interruption."""

import os
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from config.embedded import chain, house, process
from config.embedded.house import PortInUse
from config.embedded.process import HouseProblem

MANAGE = Path(house.__file__).resolve().parents[2] / "manage.py"


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that another program listens on."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield listening.getsockname()[1]


def settings(data_dir: Path, port: int = 8000) -> tuple[dict[str, str], list[str]]:
    said: list[str] = []
    return house._settings(data_dir, port=port, say=said.append), said


class TestPort:
    def test_one_that_was_asked_for_and_is_in_use_is_refused_by_name(self, tmp_path: Path, taken: int) -> None:
        with pytest.raises(PortInUse, match=f"port {taken} is in use"):
            house.choose_port(tmp_path, taken, print)

    def test_the_usual_one_gives_way_to_a_free_one_and_that_is_said(
        self, tmp_path: Path, taken: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(house, "DEFAULT_PORT", taken)
        said: list[str] = []
        chosen = house.choose_port(tmp_path, None, said.append)
        assert house.is_free(chosen)
        assert said == [f"port {taken} is in use by another program; taking {chosen}"]

    def test_last_times_port_is_taken_again(self, tmp_path: Path) -> None:
        free = chain.free_port()
        house.write_env(tmp_path, {"WEB_BIND": f"127.0.0.1:{free}"})
        assert house.choose_port(tmp_path, None, print) == free

    def test_up_leaves_with_2_and_one_line_for_a_port_in_use(self, tmp_path: Path, taken: int) -> None:
        told = manage("up", "--port", str(taken), "--data-dir", str(tmp_path / "house"))
        assert told.returncode == 2
        assert told.stderr.splitlines()[-1] == f"port {taken} is in use by another program: choose another with --port"
        assert "Traceback" not in told.stderr


class TestSettings:
    def test_what_is_made_once_stays_and_the_rest_follows_this_start(self, tmp_path: Path) -> None:
        first, _ = settings(tmp_path)
        second, _ = settings(tmp_path, port=8123)
        for name in ("SECRET_KEY", "LOG_ORIGIN"):
            assert first[name] == second[name] != ""
        assert second["PUBLIC_URL"] == "http://127.0.0.1:8123"
        assert house.read_env(tmp_path) == second

    def test_two_houses_share_neither_secret_nor_log(self, tmp_path: Path) -> None:
        one, _ = settings(tmp_path / "one")
        other, _ = settings(tmp_path / "other")
        assert one["SECRET_KEY"] != other["SECRET_KEY"]
        assert one["LOG_ORIGIN"] != other["LOG_ORIGIN"]
        assert one["DATABASE_URL"] != other["DATABASE_URL"]

    def test_nobody_else_may_read_them(self, tmp_path: Path) -> None:
        settings(tmp_path)
        assert stat.S_IMODE((tmp_path / "house.env").stat().st_mode) == 0o600

    def test_a_line_that_a_person_added_is_kept(self, tmp_path: Path) -> None:
        house.write_env(tmp_path, {"ANCHOR_INTERVAL": "60"})
        assert settings(tmp_path)[0]["ANCHOR_INTERVAL"] == "60"

    def test_a_first_start_and_an_interrupted_one_are_told_apart(self, tmp_path: Path) -> None:
        assert settings(tmp_path)[1] == [f"first start: making a house in {tmp_path}"]
        assert settings(tmp_path)[1] == ["the first start was interrupted; going on with it"]
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / "founded.json").touch()
        assert settings(tmp_path)[1] == []


def test_a_full_disk_is_said_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(house, "NEEDED_BYTES", 10**18)
    with pytest.raises(HouseProblem, match="no space left"), house.standing(tmp_path / "h", port=None, say=print):
        pass
    assert list((tmp_path / "h").iterdir()) == []


def test_a_house_that_was_never_founded_says_so(tmp_path: Path) -> None:
    with pytest.raises(HouseProblem, match="no house was founded"):
        house.founding_of(tmp_path)


def test_down_says_when_there_is_nothing_to_stop(tmp_path: Path) -> None:
    told = manage("down", "--data-dir", str(tmp_path))
    assert (told.returncode, told.stderr) == (0, f"no house runs in {tmp_path}\n")


def test_a_failing_command_of_ours_is_one_line_with_its_log(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    with pytest.raises(HouseProblem, match=r"^migrate failed: [^\n]* \(log: .*migrate.log\)$"):
        house._manage(tmp_path, {"DATABASE_URL": "postgresql://nobody@127.0.0.1:9/none"}, "migrate")
    assert "Traceback" in (tmp_path / "logs" / "migrate.log").read_text()


def manage(*words: str) -> subprocess.CompletedProcess[str]:
    environment = process.environment() | {"TALLYSTICK_DATA_DIR": ""}
    # The steps of set-up are those of another test; here the environment is this one.
    command = [sys.executable, "-c", RUN_INSIDE, str(MANAGE), *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=os.sep)


RUN_INSIDE = """
import runpy, sys
sys.argv = sys.argv[1:]
sys.path.insert(0, sys.argv[0].rpartition("/")[0])
from config import bootstrap
bootstrap.set_up = lambda **_: None
runpy.run_path(sys.argv[0], run_name="__main__")
"""
