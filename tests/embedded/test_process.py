"""A program of the house: started, known again after a crash, stopped, and never confused with a stranger's."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from config.embedded import process
from config.embedded.process import HouseProblem, Program, socket_dir

SLEEPS = (sys.executable, "-c", "import time; time.sleep(600)")


def sleeper(name: str = "sleeper", argv: tuple[str, ...] = SLEEPS) -> Program:
    return Program(name=name, argv=argv, ready=lambda: True)


@pytest.fixture
def stranger() -> Iterator[subprocess.Popen[bytes]]:
    """A process that the house did not start."""
    running = subprocess.Popen(SLEEPS)
    yield running
    running.kill()
    running.wait()


def test_a_program_that_ends_at_once_is_told_with_its_last_words(tmp_path: Path) -> None:
    dies = Program(
        name="dies", argv=(sys.executable, "-c", "print('no room on board'); raise SystemExit(3)"), ready=lambda: False
    )
    with pytest.raises(HouseProblem, match=r"^dies ended at once: no room on board"):
        process.start(dies, tmp_path)
    assert not (tmp_path / "run" / "dies.pid").exists()


def test_a_program_that_never_answers_is_stopped_again(tmp_path: Path) -> None:
    silent = Program(name="silent", argv=SLEEPS, ready=lambda: False, ready_seconds=0.2)
    running = process.launch(silent, tmp_path)
    with pytest.raises(HouseProblem, match="silent did not answer"):
        process.await_ready(running, tmp_path)
    assert process.birth(running.pid) is None


def test_what_a_killed_run_left_is_stopped_before_the_name_starts_again(tmp_path: Path) -> None:
    first = process.start(sleeper(), tmp_path)
    said: list[str] = []
    second = process.start(sleeper(), tmp_path, say=said.append)
    assert first.exited()
    assert said == [f"stopping sleeper (process {first.pid}), left over from a run that was killed"]
    first.bury()
    second.stop()


def test_a_stranger_that_got_the_pid_of_a_dead_program_is_left_alone(
    tmp_path: Path, stranger: subprocess.Popen[bytes]
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "sleeper.pid").write_text(f"{stranger.pid} 12345\n")
    assert not process.reap("sleeper", tmp_path)
    assert stranger.poll() is None


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child that its parent died")
def test_a_program_dies_with_a_supervisor_that_is_killed(tmp_path: Path) -> None:
    starts = (
        "import sys, time; from pathlib import Path; from config.embedded import process; "
        "p = process.start(process.Program(name='s', argv=(sys.executable, '-c', 'import time; time.sleep(600)'),"
        f" ready=lambda: True), Path({str(tmp_path)!r})); print(p.pid, flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", starts], stdout=subprocess.PIPE, text=True) as supervisor:
        assert supervisor.stdout is not None
        pid = int(supervisor.stdout.readline())
        assert process.birth(pid) is not None
        supervisor.send_signal(signal.SIGKILL)
    assert process.wait_until(lambda: process.birth(pid) is None, 5)


def test_a_program_that_ignores_its_stop_signal_is_killed_with_its_children(tmp_path: Path) -> None:
    stubborn = (
        "import os, signal, subprocess, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        "print(subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']).pid, flush=True);"
        "time.sleep(600)"
    )
    log = tmp_path / "logs" / "stubborn.log"
    program = Program(
        name="stubborn", argv=(sys.executable, "-c", stubborn), ready=lambda: log.read_text() != "", stop_seconds=0.2
    )
    running = process.start(program, tmp_path)
    grandchild = int(log.read_text())
    assert running.stop() == -signal.SIGKILL
    assert process.wait_until(lambda: process.birth(grandchild) is None, 5)


def test_a_socket_folder_that_others_may_enter_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    socket_dir(tmp_path).chmod(0o755)
    with pytest.raises(HouseProblem, match="not a private folder"):
        socket_dir(tmp_path)


def test_a_deep_data_folder_still_gets_a_short_socket_path(tmp_path: Path) -> None:
    deep = tmp_path / ("deep" * 20) / ("deeper" * 20)
    deep.mkdir(parents=True)
    folder = socket_dir(deep)
    assert len(os.fsencode(folder / ".s.PGSQL.5432.lock")) < 104
    folder.rmdir()


def test_a_child_inherits_no_other_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/somewhere/else")
    monkeypatch.setenv("VIRTUAL_ENV", "/somewhere/else")
    assert not {"PYTHONPATH", "VIRTUAL_ENV"} & set(process.environment())
