"""Set-up makes `.venv/` complete, goes on where it was interrupted, touches nothing else, and fails in one line."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import threading
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from config import bootstrap
from config.bootstrap import SetUpFailed, Step
from config.embedded.process import wait_until

ROOT = Path(__file__).resolve().parents[2]
LOCKS = ROOT / "config" / "requirements"
# A registry that refuses at once: nobody listens on the discard port of this machine.
NOWHERE = "http://127.0.0.1:9/simple"


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of its own, with small locks and no environment yet."""
    project = tmp_path / "project"
    locks = project / "config" / "requirements"
    locks.mkdir(parents=True)
    (project / "config" / "embedded").mkdir()
    (project / "config" / "embedded" / "anvil.py").write_text("VERSION = '1'\n")
    (project / "pyproject.toml").write_text("[project]\nname = 'x'\n")
    for name in ("main", "test", "node"):
        (locks / f"{name}.txt").write_text(f"{name}-package==1.0 \\\n    --hash=sha256:{'0' * 64}\n")
    venv = project / ".venv"
    monkeypatch.setattr(bootstrap, "PROJECT", project)
    monkeypatch.setattr(bootstrap, "LOCKS", locks)
    monkeypatch.setattr(bootstrap, "VENV", venv)
    monkeypatch.setattr(bootstrap, "PYTHON", venv / "bin" / "python")
    monkeypatch.setattr(bootstrap, "STAMP", venv / "tallystick-setup.json")
    monkeypatch.setattr(bootstrap, "LOG", venv / "tallystick-setup.log")
    monkeypatch.delenv("CHAIN_RPC_URL", raising=False)
    return project


@pytest.fixture
def done(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Steps that only note that they were taken."""
    taken: list[str] = []

    def make_venv() -> None:
        taken.append("venv")
        (elsewhere / ".venv" / "bin").mkdir(parents=True, exist_ok=True)
        python = elsewhere / ".venv" / "bin" / "python"
        if not python.exists():
            python.symlink_to(sys.executable)

    monkeypatch.setattr(bootstrap, "make_venv", make_venv)
    monkeypatch.setattr(bootstrap, "install_lock", lambda lock: taken.append(lock.stem))
    monkeypatch.setattr(bootstrap, "install_torch", lambda: taken.append("torch"))
    monkeypatch.setattr(bootstrap, "install_project", lambda: taken.append("project"))
    monkeypatch.setattr(bootstrap, "install_chain", lambda: taken.append("chain"))
    return taken


class TestSteps:
    def test_a_second_set_up_has_nothing_to_do(self, done: list[str]) -> None:
        bootstrap.set_up(with_tests=False)
        assert done == ["venv", "main", "torch", "project", "chain"]
        done.clear()
        bootstrap.set_up(with_tests=False)
        assert done == []

    def test_only_the_tests_command_installs_what_tests_need(self, done: list[str]) -> None:
        bootstrap.set_up(with_tests=False)
        done.clear()
        bootstrap.set_up(with_tests=True)
        assert done == ["test"]

    def test_a_changed_lock_repeats_its_step_alone(self, elsewhere: Path, done: list[str]) -> None:
        bootstrap.set_up(with_tests=True)
        done.clear()
        (elsewhere / "config" / "requirements" / "main.txt").write_text("other==2.0\n")
        bootstrap.set_up(with_tests=True)
        assert done == ["main"]

    def test_an_interrupted_set_up_goes_on_where_it_stopped(
        self, done: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        install_torch = bootstrap.install_torch

        def interrupted() -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(bootstrap, "install_torch", interrupted)
        with pytest.raises(KeyboardInterrupt):
            bootstrap.set_up(with_tests=False)
        assert done == ["venv", "main"]
        monkeypatch.setattr(bootstrap, "install_torch", install_torch)
        bootstrap.set_up(with_tests=False)
        assert done == ["venv", "main", "torch", "project", "chain"]

    def test_an_environment_of_another_python_is_made_again_whole(self, elsewhere: Path, done: list[str]) -> None:
        bootstrap.set_up(with_tests=False)
        done.clear()
        python = elsewhere / ".venv" / "bin" / "python"
        python.unlink()
        python.symlink_to(shutil.which("true") or "/bin/true")
        bootstrap.set_up(with_tests=False)
        assert done == ["venv", "main", "torch", "project", "chain"]

    def test_a_lost_environment_is_made_again(self, elsewhere: Path, done: list[str]) -> None:
        bootstrap.set_up(with_tests=False)
        shutil.rmtree(elsewhere / ".venv")
        done.clear()
        bootstrap.set_up(with_tests=False)
        assert done[0] == "venv"

    def test_a_chain_of_ones_own_needs_no_node_here(self, done: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CHAIN_RPC_URL", "http://node.example")
        bootstrap.set_up(with_tests=False)
        assert "chain" not in done

    def test_a_second_set_up_at_the_same_time_waits_and_finds_it_done(
        self, done: list[str], capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        bootstrap.set_up(with_tests=False)
        wanted = bootstrap.steps(with_tests=False)
        looks = iter([wanted, []])  # not yet before the wait, all done after it
        monkeypatch.setattr(bootstrap, "missing", lambda _wanted: next(looks))
        done.clear()
        capfd.readouterr()
        with bootstrap.only_one():
            waiting = threading.Thread(target=bootstrap.set_up, kwargs={"with_tests": False})
            waiting.start()
            assert wait_until(lambda: "waiting for it" in capfd.readouterr().err, 10)
        waiting.join(10)
        assert done == []
        assert "environment ready" not in capfd.readouterr().err

    def test_a_torn_stamp_counts_as_none(self, elsewhere: Path, done: list[str]) -> None:
        bootstrap.set_up(with_tests=False)
        (elsewhere / ".venv" / "tallystick-setup.json").write_text('{"venv": "')
        done.clear()
        bootstrap.set_up(with_tests=False)
        assert done[0] == "venv"

    def test_a_step_is_noted_only_after_it_was_taken(self, done: list[str]) -> None:
        bootstrap.set_up(with_tests=False)

        def fails() -> None:
            raise SetUpFailed("no")

        step = Step("main", lambda: "new", "failing", fails)
        with pytest.raises(SetUpFailed):
            step.do()
        assert bootstrap.noted()["main"] != "new"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real environment, without packages."""
    venv = tmp_path_factory.mktemp("made") / ".venv"
    subprocess.run([sys.executable, "-m", "venv", venv], check=True)
    return venv


class TestPip:
    @pytest.fixture
    def venv(self, made: Path, elsewhere: Path) -> Path:
        """A copy of it, to be broken."""
        return shutil.copytree(made, elsewhere / ".venv", symlinks=True)

    def test_no_registry_is_said_in_one_line(self, venv: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PIP_INDEX_URL", NOWHERE)
        monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
        monkeypatch.setattr(bootstrap, "pip_environment", without_retries(bootstrap.pip_environment))
        with pytest.raises(SetUpFailed, match=r"^no package registry answers[^\n]*$"):
            bootstrap.install_lock(bootstrap.LOCKS / "main.txt")
        assert (venv / "tallystick-setup.log").exists()

    def test_an_environment_variable_cannot_lead_pip_elsewhere(self, monkeypatch: pytest.MonkeyPatch) -> None:
        stray = ("PIP_TARGET", "PIP_PREFIX", "PIP_REQUIRE_VIRTUALENV", "VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME")
        for name in stray:
            monkeypatch.setenv(name, "/somewhere/else")
        monkeypatch.setenv("PIP_USER", "1")
        monkeypatch.setenv("PIP_INDEX_URL", "http://mirror.example/simple")
        told = bootstrap.pip_environment()
        assert set(stray) & set(told) == set()
        assert told["PIP_USER"] == "0"
        assert told["PIP_INDEX_URL"] == "http://mirror.example/simple"

    def test_what_a_killed_pip_left_is_forgotten(self, venv: Path) -> None:
        packages = next(venv.glob("lib/python*/site-packages"))
        whole, half, moved = packages / "a-1.dist-info", packages / "b-1.dist-info", packages / "~c"
        for folder in (whole, half, moved):
            folder.mkdir()
        (whole / "RECORD").touch()
        (half / "METADATA").touch()
        with pytest.raises(SetUpFailed):
            bootstrap.pip("install", "--no-index", "no-such-package")
        assert whole.exists()
        assert not half.exists()
        assert not moved.exists()

    def test_an_environment_without_pip_is_made_again(self, venv: Path) -> None:
        shutil.rmtree(next(venv.glob("lib/python*/site-packages/pip")))
        bootstrap.make_venv()
        assert bootstrap.runs([str(venv / "bin" / "python"), "-m", "pip", "--version"])

    def test_an_environment_that_works_is_kept(self, venv: Path) -> None:
        (venv / "kept").touch()
        bootstrap.make_venv()
        assert (venv / "kept").exists()


@pytest.mark.parametrize(
    ("said", "line"),
    [
        ("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device\n", "no space left"),
        (
            "WARNING: Retrying (Retry(total=1)) after connection broken by 'X'\nERROR: No matching\n",
            "no package registry",
        ),
        ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.\n", "its hash differs"),
        (
            "Collecting x\nERROR: No matching distribution found for x==1.0\n",
            "No matching distribution found for x==1.0",
        ),
    ],
)
def test_why_pip_gave_up_is_one_line_that_helps(said: str, line: str) -> None:
    assert line in bootstrap.why(said)
    assert "\n" not in bootstrap.why(said)


def test_too_little_room_is_said_before_anything_is_made(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "NEEDED_BYTES", 10**18)
    with pytest.raises(SetUpFailed, match="set-up needs"):
        bootstrap.make_venv()
    assert not (elsewhere / ".venv").exists()


def test_a_python_that_cannot_make_environments_is_told_what_to_install(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "ensurepip" else find(name))
    with pytest.raises(SetUpFailed, match="apt install python3-venv"):
        bootstrap.make_venv()
    assert not (elsewhere / ".venv").exists()


class TestTorch:
    @pytest.fixture
    def asked(self, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
        words: list[tuple[str, ...]] = []
        monkeypatch.setattr(bootstrap, "pip", lambda *given, **_: words.append(given))
        return words

    def test_a_machine_with_the_driver_takes_the_plain_build(
        self, asked: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(bootstrap, "has_nvidia_driver", lambda: True)
        monkeypatch.setattr(bootstrap, "cpu_index_answers", lambda: True)
        bootstrap.install_torch()
        assert asked == [("install", bootstrap.TORCH)]

    def test_a_machine_without_it_takes_the_small_build_where_its_index_answers(
        self, asked: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(bootstrap, "has_nvidia_driver", lambda: False)
        monkeypatch.setattr(bootstrap, "cpu_index_answers", lambda: True)
        bootstrap.install_torch()
        assert asked == [("install", bootstrap.TORCH, "--index-url", bootstrap.TORCH_CPU_INDEX)]

    def test_where_no_index_answers_the_plain_name_is_taken(
        self, asked: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(bootstrap, "has_nvidia_driver", lambda: False)
        monkeypatch.setattr(bootstrap, "TORCH_CPU_INDEX", NOWHERE)
        bootstrap.install_torch()
        assert asked == [("install", bootstrap.TORCH)]


class TestManage:
    """What a person sees who types a command."""

    @pytest.fixture
    def bare(self, tmp_path: Path) -> Path:
        """A copy of the project without an environment."""
        for name in ("manage.py", "pyproject.toml"):
            shutil.copy(ROOT / name, tmp_path / name)
        shutil.copytree(ROOT / "config", tmp_path / "config", ignore=shutil.ignore_patterns("__pycache__"))
        return tmp_path

    def run(
        self, project: Path, *words: str, python: str = sys.executable, **env: str
    ) -> subprocess.CompletedProcess[str]:
        command = [python, str(project / "manage.py"), *words]
        return subprocess.run(
            command, capture_output=True, text=True, check=False, env={**os.environ, **env}, cwd=project
        )

    def test_a_command_before_set_up_says_what_to_type(self, bare: Path) -> None:
        told = self.run(bare, "check", python=base_python())
        assert (told.returncode, told.stdout) == (1, "")
        assert told.stderr == "nothing is installed yet: python3 manage.py demo sets everything up\n"

    def test_without_a_registry_a_fresh_clone_says_so_in_one_line(self, bare: Path) -> None:
        told = self.run(
            bare,
            "demo",
            python=base_python(),
            PIP_INDEX_URL=NOWHERE,
            PIP_CONFIG_FILE=os.devnull,
            PIP_FIND_LINKS="",
            PIP_NO_CACHE_DIR="1",
        )
        assert told.returncode == 1
        assert told.stdout == ""
        assert "Traceback" not in told.stderr
        assert told.stderr.splitlines()[-1].startswith("no package registry answers")

    def test_an_old_python_is_told_in_one_line(self, bare: Path) -> None:
        old = bare / "old.py"
        old.write_text(
            "import sys; sys.version_info = (3, 9, 1); sys.argv = ['manage.py', 'demo']\n"
            "exec(compile(open('manage.py').read(), 'manage.py', 'exec'), {'__name__': '__main__'})\n"
        )
        told = subprocess.run([sys.executable, old], capture_output=True, text=True, check=False, cwd=bare)
        assert told.returncode == 1
        assert re.fullmatch(r"Tallystick needs Python 3\.11 or newer; .*\n", told.stderr)

    def test_a_data_folder_named_on_the_command_line_is_known_before_settings_are_read(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        for words in (
            ["--data-dir", str(tmp_path)],
            [f"--data-dir={tmp_path}"],
            ["--once", "--data-dir", str(tmp_path)],
        ):
            monkeypatch.delenv("TALLYSTICK_DATA_DIR", raising=False)
            bootstrap.name_data_dir(words)
            assert os.environ["TALLYSTICK_DATA_DIR"] == str(tmp_path)
        monkeypatch.delenv("TALLYSTICK_DATA_DIR")
        for words in ([], ["--once"], ["--data-dir"]):
            bootstrap.name_data_dir(words)
            assert "TALLYSTICK_DATA_DIR" not in os.environ


class TestLocks:
    @pytest.mark.parametrize("name", ["main", "test", "node"])
    def test_a_lock_names_no_registry_and_pins_every_package_by_hash(self, name: str) -> None:
        text = (LOCKS / f"{name}.txt").read_text()
        assert not re.search(r"://|--index-url|--extra-index-url|--find-links|@ ", text)
        entries = re.split(r"\n(?=[A-Za-z0-9])", text.strip())
        assert entries
        assert [entry for entry in entries if "--hash=sha256:" not in entry or "==" not in entry] == []

    @pytest.mark.parametrize("name", ["main", "test"])
    def test_torch_is_in_no_lock(self, name: str) -> None:
        text = (LOCKS / f"{name}.txt").read_text()
        assert not re.search(r"^(torch|triton|nvidia-(?!ml-py)|cuda-)", text, re.MULTILINE)

    def test_what_torch_needs_besides_is_locked(self) -> None:
        locked = names_in((LOCKS / "main.txt").read_text())
        assert {
            "filelock",
            "typing-extensions",
            "sympy",
            "mpmath",
            "networkx",
            "jinja2",
            "markupsafe",
            "fsspec",
        } <= locked

    def test_the_locks_are_made_from_what_the_project_asks_for(self) -> None:
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        asked = {"main": project["dependencies"], "test": project["optional-dependencies"]["test"]}
        for name, dependencies in asked.items():
            lines = (LOCKS / f"{name}.txt").read_text().lower()
            for dependency in dependencies:
                package, _, version = re.sub(r"\[.*?\]", "", dependency).lower().partition("==")
                assert f"{package.replace('_', '-')}=={version} " in lines, (
                    f"{dependency} is not in {name}.txt: run lock.py"
                )

    def test_both_locks_agree_where_they_name_the_same_package(self) -> None:
        main, test = (pins_in((LOCKS / f"{name}.txt").read_text()) for name in ("main", "test"))
        assert {
            package: (main[package], test[package])
            for package in main.keys() & test.keys()
            if main[package] != test[package]
        } == {}


def without_retries(pip_environment: Callable[[], dict[str, str]]) -> Callable[[], dict[str, str]]:
    return lambda: pip_environment() | {"PIP_RETRIES": "0", "PIP_FIND_LINKS": ""}


def base_python() -> str:
    """The interpreter that this environment was made with: it has none of our packages."""
    return str(Path(sys.executable).resolve())


def names_in(lock: str) -> set[str]:
    return set(re.findall(r"^([a-z0-9-]+)==", lock, re.MULTILINE))


def pins_in(lock: str) -> dict[str, list[str]]:
    pins: dict[str, list[str]] = {}
    for package, version in re.findall(r"^([a-z0-9-]+)==(\S+)", lock, re.MULTILINE):
        pins.setdefault(package, []).append(version)
    return pins
