"""Keep the programs of one data folder running, one supervisor for each folder, and stop them in order.

The lock is the kernel's (`run/supervisor.lock`), so that a killed supervisor never blocks the next.
What a killed one left running is known by `run/<name>.pid` and stopped before its name starts again.
"""

import fcntl
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from signal import Signals
from types import FrameType, TracebackType

from config.embedded import process
from config.embedded.process import Folders, HouseProblem, Program, Running, Say

FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 30.0
GOOD_LIFE_S = 60.0  # who lived so long starts again with the first pause
LOOK_EVERY_S, TEND_EVERY_S = 0.2, 3.0
DOWN_SECONDS = 90


class Stopping:
    """Turn the first Ctrl-C, SIGTERM or hang-up into one orderly stop, and ignore the impatient ones after it.

    Until `gently` it raises KeyboardInterrupt, so that a start in the middle ends at once; from then
    on it sets `event`.
    """

    def __init__(self) -> None:
        self.event = threading.Event()
        self._gently = False

    def __enter__(self) -> "Stopping":
        for number in (Signals.SIGINT, Signals.SIGTERM):
            signal.signal(number, self._told)
        if signal.getsignal(Signals.SIGHUP) is not signal.SIG_IGN:  # under nohup it stays ignored
            signal.signal(Signals.SIGHUP, self._told)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.event.set()

    def gently(self) -> threading.Event:
        self._gently = True
        return self.event

    def _told(self, _number: int, _frame: FrameType | None) -> None:
        if not self.event.is_set():
            self.event.set()
            if not self._gently:
                raise KeyboardInterrupt


@dataclass
class Child:
    """A program under watch."""

    program: Program
    running: Running | None
    pause_s: float = field(default_factory=lambda: FIRST_PAUSE_S)
    due: float = 0.0  # when it may start again, where it isn't running


class Supervisor:
    """Starts programs, starts them again when they die, stops them all."""

    def __init__(self, data_dir: Path, say: Say) -> None:
        self._data_dir = data_dir
        self._say = say
        self._children: list[Child] = []

    def start(self, *programs: Program) -> None:
        """Start programs side by side and return once they all serve. Raises: HouseProblem."""
        # On our list as soon as it runs: whatever happens next, stop() knows of it.
        for program in programs:
            self._children.append(Child(program, process.launch(program, self._data_dir, say=self._say)))
        for child in self._children[-len(programs) :]:
            assert child.running is not None
            process.await_ready(child.running, self._data_dir)

    def watch(self, stop: threading.Event) -> None:
        """Start again what dies, until told to stop."""
        tended = time.monotonic()
        while not stop.wait(LOOK_EVERY_S):
            self.look()
            if time.monotonic() - tended > TEND_EVERY_S:
                tended = time.monotonic()
                for child in self._children:
                    self._tend(child)

    def look(self) -> None:
        """Bury who died, and start again who has paused long enough."""
        for child in self._children:
            if child.running is not None and child.running.exited():
                self._bury(child, child.running)
            elif child.running is None and time.monotonic() >= child.due:
                self._start_again(child)

    def pids(self) -> dict[str, int]:
        return {child.program.name: child.running.pid for child in self._children if child.running is not None}

    def stop(self) -> None:
        """Stop everything, stage by stage, and leave nothing behind."""
        for stage in sorted({child.program.stage for child in self._children}, reverse=True):
            living = [c.running for c in self._children if c.program.stage == stage and c.running is not None]
            for running in living:
                running.ask_to_stop()
            for running in living:
                running.stop()
        self._children.clear()

    def _bury(self, child: Child, running: Running) -> None:
        if time.monotonic() - running.started > GOOD_LIFE_S:
            child.pause_s = FIRST_PAUSE_S
        code = running.bury()
        how = f"was killed by {Signals(-code).name}" if code < 0 else f"ended with status {code}"
        self._say(f"{child.program.name} {how}; starting it again in {child.pause_s:.0f} s")
        self._pause(child)

    def _start_again(self, child: Child) -> None:
        try:
            child.running = process.launch(child.program, self._data_dir, say=self._say)
            self._say(f"{child.program.name} runs again (process {child.running.pid})")
        except (HouseProblem, OSError) as problem:
            self._say(f"{child.program.name} does not start: {problem}; trying again in {child.pause_s:.0f} s")
            self._pause(child)

    def _pause(self, child: Child) -> None:
        child.running = None
        child.due = time.monotonic() + child.pause_s
        child.pause_s = min(child.pause_s * 2, LONGEST_PAUSE_S)

    def _tend(self, child: Child) -> None:
        try:
            child.program.tend()
        except OSError as problem:  # a full disk must not end the watch
            self._say(f"{child.program.name}: {problem}")


@contextmanager
def sole_supervisor(data_dir: Path, say: Say) -> Iterator[None]:
    """Hold a data folder's lock, and stop first what a killed supervisor left. Raises: HouseProblem when it is held."""
    folders = Folders(data_dir)
    folders.make()
    with _lock_file(data_dir).open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = process.recorded(_pid_file(data_dir))
            who = f"process {holder[0]}" if holder else "another process"
            raise HouseProblem(f"a house runs here already ({who}, {data_dir}); manage.py down stops it") from None
        if _pid_file(data_dir).exists():
            say("the last run was killed; going on from what it left")
        reap_all(data_dir, say)
        _pid_file(data_dir).write_text(f"{os.getpid()} {process.birth(os.getpid())}\n")
        try:
            yield
        finally:
            _pid_file(data_dir).unlink(missing_ok=True)


def is_running(data_dir: Path) -> bool:
    """Tell whether a supervisor holds this data folder."""
    return process.recorded(_pid_file(data_dir)) is not None


def take_down(data_dir: Path, say: Say) -> bool:
    """Stop the house of a data folder, from outside; tell whether there was something to stop.

    Raises: HouseProblem when it does not stop.
    """
    holder = process.recorded(_pid_file(data_dir))
    if holder is None:
        _pid_file(data_dir).unlink(missing_ok=True)
        return reap_all(data_dir, say)
    pid, born = holder
    os.kill(pid, Signals.SIGTERM)
    if not process.wait_until(lambda: process.birth(pid) != born, DOWN_SECONDS):
        raise HouseProblem(f"process {pid} does not stop; see {Folders(data_dir).logs}")
    return True


def reap_all(data_dir: Path, say: Say) -> bool:
    """Stop what a killed supervisor left running: the engines last, as in an orderly stop."""
    last = ("chain", "redis", "postgres")
    names = sorted((record.stem for record in Folders(data_dir).run.glob("*.pid")), key=lambda name: name in last)
    signals = {"postgres": Signals.SIGINT, "chain": Signals.SIGINT}
    left = [
        process.reap(name, data_dir, stop_signal=signals.get(name, Signals.SIGTERM), say=say)
        for name in names
        if name != "supervisor"
    ]
    return any(left)


def _lock_file(data_dir: Path) -> Path:
    return Folders(data_dir).run / "supervisor.lock"


def _pid_file(data_dir: Path) -> Path:
    return Folders(data_dir).run / "supervisor.pid"
