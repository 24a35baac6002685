"""Bring `python3 manage.py …` into the project's own environment, `.venv/`, and make that complete first.

Standard library only: it runs before anything is installed. The environment is made in steps, each
noted in a stamp with the digest of what it was made from; an interrupted set-up goes on at the step
that is not noted, a changed lock file repeats its step alone. No other environment is touched.
"""

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
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
LOCKS = PROJECT / "config" / "requirements"
VENV = PROJECT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / "tallystick-setup.json"
PIP_LOG = VENV / "tallystick-setup.log"

SETS_UP = ("demo", "up", "test")  # these commands make the environment; every other one only enters it
TORCH = "torch==2.13.0"
TORCH_CPU_INDEX = "https://download.pytorch.org/whl/cpu"  # serves the small build, for machines without NVIDIA's driver
INDEX_SECONDS = 4
REPORT_SECONDS = 5  # between two lines of progress where the output is no terminal

# What would lead pip or Python to another place than .venv. Where packages come from (index, proxy,
# certificates) stays as the user has set it up.
STRAY = re.compile(
    r"PYTHON(PATH|HOME|STARTUP|USERBASE)|VIRTUAL_ENV|__PYVENV_LAUNCHER__|PIP_(USER|TARGET|PREFIX|ROOT|SRC|"
    r"PYTHON|CONSTRAINT|REQUIREMENT|REQUIRE_HASHES|NO_BUILD_ISOLATION|NO_DEPS|ONLY_BINARY|NO_BINARY|QUIET|"
    r"VERBOSE|LOG|DRY_RUN|IGNORE_INSTALLED|FORCE_REINSTALL|BREAK_SYSTEM_PACKAGES|REQUIRE_VIRTUALENV)"
)


class SetUpFailed(Exception):
    """Why the environment can't be made, in one line."""


@dataclass(frozen=True)
class Step:
    """One step of the set-up: done when the stamp holds this digest under its name."""

    name: str
    digest: str
    says: str
    do: Callable[[], None]


def enter_environment(argv: list[str]) -> None:
    """Return inside `.venv`, with everything that the command needs; or replace this process by one that does.

    A command that doesn't set up runs with the present Python where there is no `.venv` (a container, say).
    """
    command = argv[1] if len(argv) > 1 else "help"
    inside = Path(sys.prefix).resolve() == VENV.resolve()
    try:
        if command in SETS_UP:
            set_up(with_tests=command == "test")
        elif not PYTHON.exists():
            if importlib.util.find_spec("django") is None:
                raise SetUpFailed("nothing is installed yet: python3 manage.py demo sets everything up")
            return
    except SetUpFailed as problem:
        sys.exit(f"{problem}")
    except KeyboardInterrupt:
        sys.exit("interrupted; the next start goes on from here")
    if not inside:
        sys.stdout.flush()
        os.execve(PYTHON, [str(PYTHON), *argv], clean_environment())  # noqa: S606 - our own interpreter


def set_up(*, with_tests: bool) -> None:
    """Make `.venv` complete. Raises: SetUpFailed."""
    wanted = steps(with_tests=with_tests)
    if not missing(wanted):
        return
    with only_one():
        todo = missing(wanted)  # another set-up may have done it while we waited
        if not todo:
            return
        began = time.monotonic()
        forget_half_installed()
        for number, step in enumerate(todo, 1):
            say(f"[{number}/{len(todo)}] {step.says}")
            step.do()
            note(step)
        say(f"environment ready after {time.monotonic() - began:.0f} s: {VENV}")


def steps(*, with_tests: bool) -> list[Step]:
    """List what the environment is made of, in order."""
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    chain_code = PROJECT / "config" / "embedded" / "chain.py"
    wanted = [
        Step("venv", python_of_venv() or python, f"making {VENV} with Python {python}", make_venv),
        Step("main", digest_of(LOCKS / "main.txt"), says_of("main"), lambda: install_lock("main")),
        Step("torch", TORCH, f"installing {TORCH}", install_torch),
        Step("project", digest_of(PROJECT / "pyproject.toml"), "installing the project itself", install_project),
    ]
    if with_tests:
        wanted.append(Step("test", digest_of(LOCKS / "test.txt"), says_of("test"), lambda: install_lock("test")))
    if not os.environ.get("CHAIN_RPC_URL"):
        wanted.append(Step("chain", digest_of(chain_code), "installing the EVM node", install_chain))
    return wanted


def missing(wanted: list[Step]) -> list[Step]:
    """List the steps that are not noted, and all that follow a new environment."""
    done = noted()
    if not PYTHON.exists():
        return wanted
    return [step for step in wanted if done.get(step.name) != step.digest]


# --- the steps ------------------------------------------------------------------------------------


def make_venv() -> None:
    for module, package in (("venv", "python3-venv"), ("ensurepip", "python3-venv")):
        if importlib.util.find_spec(module) is None:
            raise SetUpFailed(f"this Python can't make environments: install your system's {package} package first")
    if subprocess.run([PYTHON, "-I", "-m", "pip", "--version"], capture_output=True, check=False).returncode == 0:
        return
    run([sys.executable, "-I", "-m", "venv", "--clear", str(VENV)], "the environment could not be made")
