"""Bring `python3 manage.py …` into the project's own environment, `.venv/`, and make that complete first.

Standard library only: it runs before anything is installed. The environment is made in steps, each
noted in a stamp with the digest of what it was made from: an interrupted set-up goes on at the step
that is not noted, and a changed lock file repeats its step alone. No other environment is touched.
"""

import argparse
import contextlib
import fcntl
import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

PROJECT = Path(__file__).resolve().parent.parent
LOCKS = PROJECT / "config" / "requirements"
VENV = PROJECT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / "tallystick-setup.json"
LOG = VENV / "tallystick-setup.log"

SETS_UP = ("demo", "test", "up")  # these commands make the environment; every other one only enters it
TAKES_DATA_DIR = ("demo", "up", "down")
TORCH = "torch==2.13.0"
TORCH_CPU_INDEX = "https://download.pytorch.org/whl/cpu"  # the small build, for machines without NVIDIA's driver
INDEX_SECONDS = 4
NEEDED_BYTES = 2_200_000_000  # measured with the CPU build of torch
REPORT_SECONDS = 5  # between two lines of progress

# What would lead Python or pip to another place than .venv. Where packages come from (index, proxy,
# certificates) stays as the machine has it.
STRAY_PYTHON = re.compile(r"PYTHON(PATH|HOME|STARTUP|USERBASE|SAFEPATH)|VIRTUAL_ENV|__PYVENV_LAUNCHER__")
KEPT_PIP = re.compile(
    r"PIP_(INDEX_URL|EXTRA_INDEX_URL|FIND_LINKS|NO_INDEX|TRUSTED_HOST|CERT|CLIENT_CERT|PROXY|DEFAULT_TIMEOUT|"
    r"CACHE_DIR|NO_CACHE_DIR|CONFIG_FILE|KEYRING_PROVIDER)"
)
UNREACHABLE = re.compile(
    r"connection broken by|Max retries exceeded|Failed to establish|ConnectTimeout|Name or service not known|"
    r"Temporary failure in name resolution|Read timed out"
)


class SetUpFailed(Exception):
    """Why the environment can't be made, in one line."""


class Step(NamedTuple):
    """One step of the set-up: done when the stamp holds this digest under its name."""

    name: str
    digest: Callable[[], str]
    says: str
    do: Callable[[], None]


def enter_environment(argv: list[str]) -> None:
    """Return inside `.venv`, with everything that the command needs; or replace this process by one that does.

    A command that doesn't set up runs on the present Python where there is no `.venv` (a container, say).
    """
    command = argv[1] if len(argv) > 1 else "help"
    if command in TAKES_DATA_DIR:
        name_data_dir(argv[2:])
    try:
        if command in SETS_UP and not {"-h", "--help"} & set(argv[2:]):
            set_up(with_tests=command == "test")
        elif not PYTHON.exists():
            if importlib.util.find_spec("django") is None:
                raise SetUpFailed("nothing is installed yet: python3 manage.py demo sets everything up")
            return
    except SetUpFailed as problem:
        sys.exit(str(problem))
    except KeyboardInterrupt:
        sys.exit("interrupted; the next start goes on from here")
    if Path(sys.prefix).resolve() != VENV.resolve():
        environment = {name: value for name, value in os.environ.items() if not STRAY_PYTHON.fullmatch(name)}
        os.execve(PYTHON, [str(PYTHON), *argv], environment)  # noqa: S606 - our own interpreter


def name_data_dir(words: list[str]) -> None:
    """Put --data-dir into the environment: settings are read from that folder before a command sees its options."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--data-dir", type=Path)
    with contextlib.suppress(argparse.ArgumentError):  # a missing value: the command itself will say so
        if (given := parser.parse_known_args(words)[0].data_dir) is not None:
            os.environ["TALLYSTICK_DATA_DIR"] = str(given.resolve())


def set_up(*, with_tests: bool) -> None:
    """Make `.venv` complete. Raises: SetUpFailed."""
    wanted = steps(with_tests=with_tests)
    if not missing(wanted):
        return
    with only_one():
        todo = missing(wanted)  # another set-up may have done it while we waited
        began = time.monotonic()
        try:
            for number, step in enumerate(todo, 1):
                say(f"[{number}/{len(todo)}] {step.says}")
                step.do()
                note(step)
        except OSError as problem:
            raise SetUpFailed(f"set-up stopped: {problem}") from problem
        if todo:
            seconds = time.monotonic() - began
            os.environ["TALLYSTICK_SETUP_SECONDS"] = f"{seconds:.1f}"  # for the account that `demo` gives
            say(f"environment ready after {seconds:.0f} s: {VENV}")


def steps(*, with_tests: bool) -> list[Step]:
    """List what the environment is made of, in order."""
    main, test = LOCKS / "main.txt", LOCKS / "test.txt"
    wanted = [
        Step("venv", lambda: os.path.realpath(PYTHON), f"making the environment {VENV}", make_venv),
        Step("main", lambda: digest_of(main), f"installing {size(main)} packages", lambda: install_lock(main)),
        Step("torch", lambda: TORCH, f"installing {TORCH} (the largest part)", install_torch),
        Step("project", lambda: digest_of(PROJECT / "pyproject.toml"), "installing tallystick itself", install_project),
    ]
    if with_tests:
        says = f"installing {size(test)} packages for the tests"
        wanted.append(Step("test", lambda: digest_of(test), says, lambda: install_lock(test)))
    if not os.environ.get("CHAIN_RPC_URL"):
        anvil = PROJECT / "config" / "embedded" / "anvil.py"
        wanted.append(Step("chain", lambda: digest_of(anvil), "installing the EVM node", install_chain))
    return wanted


def missing(wanted: list[Step]) -> list[Step]:
    """List the steps that are not noted; all of them where the environment itself is gone or another's."""
    done = noted()
    undone = [step for step in wanted if done.get(step.name) != step.digest()]
    return wanted if undone and undone[0].name == "venv" else undone


# --- the steps ------------------------------------------------------------------------------------


def make_venv() -> None:
    if not LOCKS.is_dir() or not (PROJECT / "pyproject.toml").is_file():
        raise SetUpFailed(f"{PROJECT} is no whole copy of the project")
    if runs([str(PYTHON), "-I", "-m", "pip", "--version"]):  # an interrupted set-up's, or one made by hand
        return
    for module in ("venv", "ensurepip"):
        if importlib.util.find_spec(module) is None:
            raise SetUpFailed("this Python can't make environments; on Debian and Ubuntu: apt install python3-venv")
    free = shutil.disk_usage(PROJECT).free
    if free < NEEDED_BYTES:
        raise SetUpFailed(f"set-up needs {NEEDED_BYTES / 1e9:.1f} GB in {PROJECT}, and {free / 1e9:.1f} GB are free")
    # Under the base interpreter: the one of .venv is about to be replaced.
    base = getattr(sys, "_base_executable", sys.executable)
    made = subprocess.run(
        [base, "-I", "-m", "venv", "--clear", str(VENV)],
        capture_output=True,
        text=True,
        check=False,
        env=pip_environment(),
    )
    if made.returncode != 0:
        raise SetUpFailed(f"the environment could not be made: {last_words(made.stdout + made.stderr)}")


def install_lock(lock: Path) -> None:
    # Without dependencies: the lock names them all, except torch.
    pip("install", "--no-deps", "--require-hashes", "-r", str(lock), packages=size(lock))


def install_torch() -> None:
    if not has_nvidia_driver() and cpu_index_answers():
        with contextlib.suppress(SetUpFailed):  # a mirror may lack it: the plain name is as good, only larger
            pip("install", TORCH, "--index-url", TORCH_CPU_INDEX)
            return
    pip("install", TORCH)


def install_project() -> None:
    pip("install", "--no-deps", "--no-build-isolation", "--quiet", "-e", str(PROJECT))


def install_chain() -> None:
    if shutil.which("npm") is None:
        say("  this machine has no npm: taking Node from a package")
        install_lock(LOCKS / "node.txt")
    told = subprocess.run(
        [str(PYTHON), "-m", "config.embedded.anvil"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
        env=pip_environment(),
    )
    if told.returncode != 0:
        raise SetUpFailed(last_words(told.stderr))


def has_nvidia_driver() -> bool:
    return Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi") is not None


def cpu_index_answers() -> bool:
    """Ask the CPU index once, and don't wait for it: name resolution alone can take longer than a person does."""
    import urllib.request

    answered = threading.Event()

    def ask() -> None:
        with (
            contextlib.suppress(OSError),
            urllib.request.urlopen(f"{TORCH_CPU_INDEX}/torch/", timeout=INDEX_SECONDS) as answer,  # noqa: S310
        ):
            if answer.status == 200:
                answered.set()

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(INDEX_SECONDS)
    return answered.is_set()


# --- pip ------------------------------------------------------------------------------------------


def pip(*words: str, packages: int | None = None) -> None:
    """Run the environment's own pip, telling how far it is. Raises: SetUpFailed."""
    forget_half_installed()
    command = [str(PYTHON), "-I", "-m", "pip", *words, "--no-input", "--disable-pip-version-check"]
    command += ["--no-warn-script-location", "--progress-bar", "off", "--retries", "2"]
    said: list[str] = []
    with (
        LOG.open("w") as log,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=pip_environment()
        ) as running,
        progress(said, packages),
    ):
        assert running.stdout is not None
        for line in running.stdout:
            said.append(line)
            log.write(line)
    if running.returncode != 0:
        raise SetUpFailed(why("".join(said)))


def why(said: str) -> str:
    """Say in one line why pip gave up."""
    if "No space left on device" in said:
        return f"no space left on the device: set-up needs {NEEDED_BYTES / 1e9:.1f} GB in {PROJECT}"
    if UNREACHABLE.search(said):
        return "no package registry answers: set-up needs one, once; check the network, or the index that pip is set to"
    if "DO NOT MATCH THE HASHES" in said:
        return f"a package is not the one that was locked (its hash differs); see {LOG}"
    errors = [line for line in said.splitlines() if line.startswith("ERROR:")]
    return f"a package could not be installed: {last_words(errors[-1] if errors else said)}; see {LOG}"


@contextlib.contextmanager
def progress(said: list[str], packages: int | None) -> Iterator[None]:
    """Tell every few seconds how far pip is."""
    done = threading.Event()
    began = time.monotonic()

    def tell() -> None:
        while not done.wait(REPORT_SECONDS):
            if any(line.startswith("Installing collected packages") for line in said):
                doing = "writing them to disk"
            elif packages:
                fetched = sum(line.startswith(("Collecting", "Requirement already")) for line in said)
                doing = f"fetched {min(fetched, packages)} of {packages}"
            else:
                doing = "fetching"
            say(f"  … {doing} ({time.monotonic() - began:.0f} s)")

    teller = threading.Thread(target=tell, daemon=True)
    teller.start()
    try:
        yield
    finally:
        done.set()
        teller.join()


def pip_environment() -> dict[str, str]:
    """Copy our environment without what leads elsewhere."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not STRAY_PYTHON.fullmatch(name) and (not name.startswith("PIP_") or KEPT_PIP.fullmatch(name))
    }
    return kept | {"PIP_USER": "0", "PYTHONNOUSERSITE": "1"}


def forget_half_installed() -> None:
    """Remove what a killed pip left: records that were not finished, so that pip installs those packages again."""
    for packages in VENV.glob("lib/python*/site-packages"):
        for leftover in [
            *packages.glob("~*"),
            *(d for d in packages.glob("*.dist-info") if not (d / "RECORD").exists()),
        ]:
            shutil.rmtree(leftover, ignore_errors=True)


# --- what was done --------------------------------------------------------------------------------


def noted() -> dict[str, str]:
    """Read which steps were done, from what."""
    if not PYTHON.exists():
        return {}
    try:
        found = json.loads(STAMP.read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def note(step: Step) -> None:
    """Note a step as done; a crash before this line repeats the step."""
    making = STAMP.with_suffix(".making")
    making.write_text(json.dumps(noted() | {step.name: step.digest()}, indent=1))
    making.rename(STAMP)


@contextlib.contextmanager
def only_one() -> Iterator[None]:
    """Let one set-up work at a time; the kernel frees the lock of a killed one."""
    folder = os.open(LOCKS, os.O_RDONLY)
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another set-up is at work here; waiting for it")
            fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def digest_of(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def size(lock: Path) -> int:
    """Count the packages of a lock file."""
    return len(re.findall(r"^[A-Za-z0-9].*==", lock.read_text(), re.MULTILINE))


def runs(command: list[str]) -> bool:
    """Tell whether a command can be run and is content."""
    try:
        return subprocess.run(command, capture_output=True, check=False, env=pip_environment()).returncode == 0
    except OSError:
        return False


def last_words(said: str) -> str:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"


def say(line: str) -> None:
    """Tell the person at the terminal; stdout belongs to the command."""
    print(line, file=sys.stderr, flush=True)
