"""Start one program, know it again after a crash of ours, and stop it.

A program runs in a session of its own, so that Ctrl-C reaches it only through us. Its pid stands in
`run/<name>.pid` together with its birth (the kernel's start time): a pid alone may by now belong to
a stranger, and a stranger is never signalled. Where the kernel offers it, a program is also told
when we die; the record is the second line, for programs that outlive that.
"""

import contextlib
import ctypes
import os
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from signal import Signals
from typing import BinaryIO

PR_SET_PDEATHSIG = 1
SOCKET_PATH_LIMIT = 103  # bytes: 108 in Linux, 104 in macOS, less the closing zero
KEPT_LOG_BYTES = 20 * 1024 * 1024
_LIBC = ctypes.CDLL(None)
Say = Callable[[str], None]  # tells the person at the terminal one line


class HouseProblem(Exception):
    """What keeps the house from standing, in one line."""


def silent(_line: str) -> None:
    """Tell nobody."""


@dataclass(frozen=True)
class Program:
    """What to run, how to see that it serves, and how it likes to be stopped."""

    name: str
    argv: tuple[str, ...]
    ready: Callable[[], bool]
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: Path | None = None
    prepare: Callable[[], None] = lambda: None  # clears what a crash left; runs before each start
    tend: Callable[[], None] = lambda: None  # runs every few seconds while it lives
    ready_seconds: float = 30
    stop_signal: Signals = Signals.SIGTERM
    stop_seconds: float = 10
    stage: int = 0  # a house stops from the highest stage down: its doors first, its engines last
    run_as: tuple[int, int] | None = None  # uid and gid, where it must not be ours


@dataclass(frozen=True)
class Folders:
    """Where a data folder keeps what belongs to running programs."""

    data: Path

    @property
    def run(self) -> Path:
        return self.data / "run"

    @property
    def logs(self) -> Path:
        return self.data / "logs"

    def make(self) -> None:
        for folder in (self.data, self.run, self.logs):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)


class Running:
    """A program that we started in this process."""

    def __init__(self, program: Program, process: "subprocess.Popen[bytes]", record: Path) -> None:
        self.program = program
        self.pid = process.pid
        self.started = time.monotonic()
        self._process = process
        self._record = record

    def exited(self) -> bool:
        """Tell whether it ended, without giving its pid free: until `bury` nobody else can get it."""
        if self._process.returncode is not None:
            return True
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None

    def bury(self) -> int:
        """End what is left of its process group, take its exit status, forget its pid."""
        if self._process.returncode is None:
            _signal_group(self.pid, Signals.SIGKILL)
        code = self._process.wait()
        self._record.unlink(missing_ok=True)
        return code

    def ask_to_stop(self) -> None:
        """Send the signal that it likes, to itself alone: it winds up its own children."""
        if not self.exited():
            os.kill(self.pid, self.program.stop_signal)

    def stop(self) -> int:
        """Ask it to stop, wait, insist, and return its exit status."""
        self.ask_to_stop()
        if not wait_until(self.exited, self.program.stop_seconds):
            _signal_group(self.pid, Signals.SIGKILL)
        return self.bury()


def start(program: Program, data_dir: Path, *, say: Say = silent) -> Running:
    """Run a program and return once it serves.

    Raises: HouseProblem when it ends or stays silent for its `ready_seconds`.
    """
    running = launch(program, data_dir, say=say)
    await_ready(running, data_dir)
    return running


def launch(program: Program, data_dir: Path, *, say: Say = silent) -> Running:
    """Run a program, without waiting for it to serve."""
    folders = Folders(data_dir)
    folders.make()
    reap(program.name, data_dir, stop_signal=program.stop_signal, seconds=program.stop_seconds, say=say)
    program.prepare()
    with _open_log(folders.logs / f"{program.name}.log") as log:
        process = subprocess.Popen(
            program.argv,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=program.cwd,
            env=environment() | dict(program.env),
            start_new_session=True,
            user=program.run_as[0] if program.run_as else None,
            group=program.run_as[1] if program.run_as else None,
            extra_groups=[] if program.run_as else None,
            preexec_fn=_die_with_us(program.stop_signal) if sys.platform == "linux" else None,
        )
    # A crash of ours right here leaves a program without a record; the kernel tells it that we died.
    record = folders.run / f"{program.name}.pid"
    record.write_text(f"{process.pid} {birth(process.pid) or ''}\n")
    return Running(program, process, record)


def await_ready(running: Running, data_dir: Path) -> None:
    """Wait until a program serves. Raises: HouseProblem, after stopping it, when it doesn't."""
    program = running.program
    if wait_until(lambda: running.exited() or program.ready(), program.ready_seconds) and not running.exited():
        return
    log = Folders(data_dir).logs / f"{program.name}.log"
    died = running.exited()
    running.stop()
    how = "ended at once" if died else f"did not answer within {program.ready_seconds:.0f} s"
    raise HouseProblem(f"{program.name} {how}: {last_line(log)} (log: {log})")


def reap(
    name: str,
    data_dir: Path,
    *,
    stop_signal: Signals = Signals.SIGTERM,
    seconds: float = 10,
    say: Say = silent,
) -> bool:
    """Stop what an earlier supervisor left running under this name; tell whether there was something."""
    record = Folders(data_dir).run / f"{name}.pid"
    left = recorded(record)
    record.unlink(missing_ok=True)
    if left is None:
        return False
    pid, born = left
    say(f"stopping {name} (process {pid}), left over from a run that was killed")
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, stop_signal)
    if not wait_until(lambda: birth(pid) != born, seconds):
        _signal_group(pid, Signals.SIGKILL)
        wait_until(lambda: birth(pid) != born, 5)
    return True


def recorded(record: Path) -> tuple[int, str] | None:
    """Read a pid record: the pid and birth of a process that still lives, else None."""
    try:
        pid_text, born = record.read_text().split()
        pid = int(pid_text)
    except (FileNotFoundError, ValueError):
        return None
    return (pid, born) if birth(pid) == born else None


def birth(pid: int) -> str | None:
    """Tell when a living process began, in a form only to be compared; None for a dead one or a zombie."""
    stat_file = Path(f"/proc/{pid}/stat")
    if Path("/proc/self/stat").exists():
        try:
            fields = stat_file.read_text().rpartition(")")[2].split()
        except OSError:
            return None
        # After the name: field 3 is the state, field 22 the start time in clock ticks since boot.
        return None if fields[0] in "ZX" else fields[19]
    told = subprocess.run(
        ["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
    ).stdout.split(maxsplit=1)
    return None if not told or told[0].startswith("Z") else told[1].strip().replace(" ", "_")


def environment() -> dict[str, str]:
    """Copy our environment without what would lead a Python child to another installation."""
    stray = {"PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "VIRTUAL_ENV", "__PYVENV_LAUNCHER__"}
    return {name: value for name, value in os.environ.items() if name not in stray} | {"PYTHONNOUSERSITE": "1"}


def wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    """Ask again and again until the condition holds; False when the time is over first."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.03)
    return True


def socket_dir(data_dir: Path) -> Path:
    """Make the folder for a data folder's sockets: short, ours alone, and the same at every start.

    Socket paths end at about a hundred bytes and data folders may lie deep, so it is under the
    system's temporary folder. That one is shared: a folder of another owner or mode is refused.
    """
    name = sha256(os.fsencode(data_dir.resolve())).hexdigest()[:12]
    for temporary in (Path(tempfile.gettempdir()), Path("/tmp")):  # noqa: S108 - checked below
        parent = temporary / f"tallystick-{os.getuid()}"
        if len(os.fsencode(parent / name)) + len("/.s.PGSQL.5432.lock") <= SOCKET_PATH_LIMIT:
            break
    else:
        raise HouseProblem(f"the temporary folder's path is too long for a socket: {tempfile.gettempdir()}")
    _make_private(parent)
    _make_private(parent / name)
    return parent / name


def last_line(log: Path) -> str:
    """Find the last thing that a program said."""
    try:
        lines = log.read_bytes()[-4000:].decode(errors="replace").strip().splitlines()
    except OSError:
        lines = []
    return lines[-1].strip() if lines else "it said nothing"


def _make_private(folder: Path) -> None:
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_mode & 0o077 or found.st_uid != os.getuid():
        raise HouseProblem(f"{folder} is not a private folder of this user; remove it and start again")


def _open_log(path: Path) -> BinaryIO:
    if path.exists() and path.stat().st_size > KEPT_LOG_BYTES:
        path.replace(path.with_suffix(".log.1"))
    return path.open("ab")


def _signal_group(leader: int, number: Signals) -> None:
    # The group exists as long as one member lives, even after its leader; gone is as good as signalled.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(leader, number)


def _die_with_us(number: Signals) -> Callable[[], None]:
    prctl, parent = _LIBC.prctl, os.getpid()

    def ask_the_kernel() -> None:
        prctl(PR_SET_PDEATHSIG, int(number))
        if os.getppid() != parent:  # we died between the fork and the request
            os._exit(1)

    return ask_the_kernel
