"""One supervisor for each data folder: it starts again what dies, says so, and stops doors before engines."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from config.embedded import process, supervisor
from config.embedded.process import HouseProblem, Program
from config.embedded.supervisor import Child, Supervisor, sole_supervisor, take_down

SLEEPS = (sys.executable, "-c", "import time; time.sleep(600)")


def program(name: str, *, stage: int = 0, argv: tuple[str, ...] = SLEEPS) -> Program:
    return Program(name=name, argv=argv, ready=lambda: True, stage=stage)


def test_a_child_that_is_killed_runs_again_and_that_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "FIRST_PAUSE_S", 0.05)
    said: list[str] = []
    watching = Supervisor(tmp_path, said.append)
    watching.start(program("web"))
    first = watching.pids()["web"]
    os.kill(first, signal.SIGKILL)

    def runs_again() -> bool:
        watching.look()
        return watching.pids().get("web", first) != first

    assert process.wait_until(runs_again, 10)
    assert said[0].startswith("web was killed by SIGKILL; starting it again in")
    assert said[1] == f"web runs again (process {watching.pids()['web']})"
    watching.stop()


def test_the_pause_doubles_while_a_child_keeps_dying(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(supervisor, "LONGEST_PAUSE_S", 0.04)
    said: list[str] = []
    watching = Supervisor(tmp_path, said.append)
    dies = program("web", argv=(sys.executable, "-c", "raise SystemExit(4)"))
    child = Child(dies, process.launch(dies, tmp_path))
    watching._children.append(child)
    pauses: list[float] = []

    def died_often() -> bool:
        watching.look()
        if child.pause_s not in pauses:
            pauses.append(child.pause_s)
        return len([line for line in said if "ended with status 4" in line]) >= 4

    assert process.wait_until(died_often, 20)
    assert pauses == [0.01, 0.02, 0.04]
    watching.stop()


NOTES = """
import signal, sys, time
def end(*_):
    with open({0!r}, "a") as order:
        order.write({1!r} + " ")
    sys.exit()
signal.signal(signal.SIGTERM, end)
print("up", flush=True)
time.sleep(600)
"""


def test_doors_stop_before_engines_and_nothing_is_left(tmp_path: Path) -> None:
    order = tmp_path / "order"

    def noting(name: str, stage: int) -> Program:
        argv = (sys.executable, "-c", NOTES.format(str(order), name))
        log = tmp_path / "logs" / f"{name}.log"
        return Program(name=name, argv=argv, ready=lambda: log.exists() and log.read_text() != "", stage=stage)

    watching = Supervisor(tmp_path, lambda _line: None)
    watching.start(noting("engine", 0), noting("worker", 1), noting("web", 3))
    pids = watching.pids().values()
    watching.stop()
    assert order.read_text().split() == ["web", "worker", "engine"]
    assert [process.birth(pid) for pid in pids] == [None, None, None]
    assert list((tmp_path / "run").glob("*.pid")) == []


def test_a_second_supervisor_of_the_same_folder_is_refused(tmp_path: Path) -> None:
    mine = sole_supervisor(tmp_path, print)
    with mine, pytest.raises(HouseProblem, match=f"runs here already \\(process {os.getpid()}"):
        sole_supervisor(tmp_path, print).__enter__()
    assert not (tmp_path / "run" / "supervisor.pid").exists()


HOLDS = """
import sys, time
from collections.abc import Iterator
from pathlib import Path
from config.embedded.process import Program
from config.embedded.supervisor import Stopping, Supervisor, sole_supervisor
folder = Path(sys.argv[1])
with Stopping() as stopping, sole_supervisor(folder, print):
    children = Supervisor(folder, print)
    # Cleared: the kernel does not tell this one that its supervisor died.
    survives = "import ctypes, time; ctypes.CDLL(None).prctl(1, 0); print('up', flush=True); time.sleep(600)"
    log = folder / "logs" / "child.log"
    children.start(Program(name="child", argv=(sys.executable, "-c", survives), ready=lambda: log.read_text() != ""))
    print(children.pids()["child"], flush=True)
    children.watch(stopping.gently())
    children.stop()
"""


@pytest.fixture
def held(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A supervisor with one child in another process; gives both."""
    with subprocess.Popen([sys.executable, "-c", HOLDS, str(tmp_path)], stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        yield running, int(running.stdout.readline())
        running.kill()


def test_it_is_taken_down_from_another_process(tmp_path: Path, held: tuple[subprocess.Popen[str], int]) -> None:
    running, child = held
    # Somebody must take its exit status, as a shell does: until then it counts as there.
    threading.Thread(target=running.wait, daemon=True).start()
    assert supervisor.is_running(tmp_path)
    assert take_down(tmp_path, print)
    assert process.birth(child) is None
    assert not supervisor.is_running(tmp_path)
    assert not take_down(tmp_path, print)


def test_what_a_killed_supervisor_left_is_stopped_at_the_next_start(
    tmp_path: Path, held: tuple[subprocess.Popen[str], int]
) -> None:
    running, child = held
    running.kill()
    running.wait()
    assert process.birth(child) is not None
    said: list[str] = []
    with sole_supervisor(tmp_path, said.append):
        assert process.birth(child) is None
    assert said[0] == "the last run was killed; going on from what it left"
    assert said[1].startswith(f"stopping child (process {child})")


def test_down_stops_what_a_killed_supervisor_left(tmp_path: Path, held: tuple[subprocess.Popen[str], int]) -> None:
    running, child = held
    running.kill()
    running.wait()
    assert take_down(tmp_path, print)
    assert process.birth(child) is None
