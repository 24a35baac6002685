"""The verifier as one file: run by a bare Python, without a package, it says what the house's own verifier says."""

import json
import os
import random
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from jobs.client import pyz
from jobs.client.trust import Trust, add_own
from jobs.client.verdicts import Word
from jobs.client.verify import Report, verify_tally
from receipts import curves
from receipts.canonical import encode
from tests.jobs.client.book import Book, tell_jobs
from tests.jobs.client.house import House, Keys
from tests.jobs.client.test_mutations import all_changes

FULL = bool(os.environ.get("TALLYSTICK_TEST_FULL"))
COMPILED = ("nacl", "coincurve", "sha3", "_cffi_backend", "c2pa", "django", "requests", "web3")


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file, as the command builds it."""
    path = tmp_path_factory.mktemp("pyz") / "tallystick-verify.pyz"
    call_command("build_verifier", "--output", str(path), "--json")
    return path


@pytest.fixture(scope="session")
def files(house: House, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    (folder / "job.tally.json").write_bytes(house.file)
    (folder / "text.txt").write_text("hello, world\n")
    trust = add_own(house.document(), clients=[house.keys.client.key_id])
    (folder / "trust.json").write_text(json.dumps(trust))
    required = [name for name in trust["policy"]["require"] if name not in ("artifact", "credential")]
    changed = house.document(policy={**trust["policy"], "require": required})
    (folder / "less.json").write_text(json.dumps(add_own(changed, clients=[house.keys.client.key_id])))
    (folder / "picture.png").write_bytes(house.artifact)
    return folder


def run(program: Path, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run it isolated: no site-packages, no environment, nothing of this repository."""
    bare = [sys.executable, "-I", "-S", str(program), *arguments]
    return subprocess.run(bare, cwd=cwd, env={}, capture_output=True, text=True, timeout=60)


def test_a_bare_python_judges_a_real_tally(program: Path, files: Path, house: House, trust: Trust) -> None:
    given = ("verify", "job.tally.json", "--artifact", "picture.png", "--json")
    done = run(program, *given, "--trust", "less.json", cwd=files)
    assert (done.returncode, done.stderr) == (0, "")
    done = run(program, *given, "--trust", "trust.json", cwd=files)
    assert done.returncode == 3, "the credential's library is compiled: it stays unknown"
    told = {item["claim"]: item for item in json.loads(done.stdout)["verdicts"]}
    ours = verify_tally(house.file, trust, artifact=house.artifact)
    for verdict in ours.verdicts:
        if verdict.claim == "credential":
            assert told["credential"]["verdict"] == "unknown" and "no C2PA library" in told["credential"]["detail"]
        else:
            assert told[verdict.claim]["verdict"] == str(verdict.verdict), verdict
            assert told[verdict.claim]["detail"] == verdict.detail


def test_a_changed_tally_is_broken_and_a_text_is_none(program: Path, files: Path, house: House) -> None:
    text = house.file.decode().replace('\\\\\\"value\\\\\\":1500', '\\\\\\"value\\\\\\":1501')
    (files / "changed.json").write_text(text)
    assert text != house.file.decode()
    done = run(program, "verify", "changed.json", "--trust", "trust.json", cwd=files)
    assert done.returncode == 1 and "JobCompleted data.claim" in done.stdout
    done = run(program, "verify", "text.txt", "--trust", "trust.json", cwd=files)
    assert (done.returncode, done.stdout) == (2, "") and done.stderr.count("\n") == 1
    for wrong in ([], ["submit", "a red circle"], ["verify", "x", "--rpc", "http://127.0.0.1:1"]):
        done = run(program, *wrong, cwd=files)
        assert done.returncode == 2 and done.stderr.startswith("tallystick: ") and done.stderr.count("\n") == 1


def test_mallorys_house_is_broken_there_too(program: Path, files: Path, folder: Path) -> None:
    (files / "forged.json").write_bytes(House(folder, keys=Keys("mallory")).file)
    done = run(program, "verify", "forged.json", "--trust", "trust.json", cwd=files)
    assert done.returncode == 1 and "checkpoint" in done.stdout.splitlines()[-1]


def test_a_bare_python_audits_a_log(program: Path, house: House, tmp_path: Path) -> None:
    book = tmp_path / "book"
    book.mkdir()
    Book(book, tell_jobs(house.folder, 3)).publish().export_all()
    done = run(program, "audit", "book", "--trust", "book/trust.json", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["counts"]["shown"] == 30


def test_it_starts_within_a_second(program: Path, files: Path) -> None:
    """The best of several starts is what the program, not the machine, takes."""
    spent = []
    for _ in range(3):
        before = os.times()
        assert run(program, "trust", "trust.json", cwd=files).returncode == 0
        after = os.times()
        spent.append(after.children_user + after.children_system - before.children_user - before.children_system)
    assert min(spent) < 1.0


def test_it_carries_sources_and_licences_alone_and_is_built_the_same_twice(program: Path) -> None:
    with zipfile.ZipFile(program) as archive:
        names = archive.namelist()
    assert all(name.endswith((".py", ".txt")) for name in names)
    assert {f"licences/{name}.txt" for name in (*pyz.LIBRARIES, "tallystick")} <= set(names)
    assert not any("django" in name or "test_" in name or "models" in name for name in names)
    assert program.read_bytes() == pyz.build()
    assert program.stat().st_mode & 0o111
    assert len(program.read_bytes()) < 400_000


def test_a_bare_python_loads_nothing_compiled_from_elsewhere(program: Path, files: Path) -> None:
    code = (
        "import sys, runpy; sys.argv = sys.argv[1:]\n"
        "try: runpy.run_path(sys.argv[0], run_name='__main__')\n"
        f"except SystemExit: print(sorted(set(sys.modules) & set({COMPILED})))"
    )
    given = [str(program), "verify", "job.tally.json", "--trust", "trust.json", "--json"]
    bare = [sys.executable, "-I", "-S", "-c", code, *given]
    done = subprocess.run(bare, cwd=files, env={}, capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "[]", done.stderr


def test_where_it_can_not_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CommandError, match="can't be written") as refused:
        call_command("build_verifier", "--output", str(tmp_path / "file" / "x.pyz"))
    assert refused.value.returncode == 2


def judged(data: bytes, trust: Trust) -> "Report | str":
    try:
        return verify_tally(data, trust)
    except ValueError as error:
        return str(error)


def test_both_halves_of_the_curves_give_the_same_verdicts(
    house: House, trust: Trust, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever value of a tally is changed, the compiled and the pure verifier tell the same, word by word."""
    dice = random.Random(20261121)
    every = list(all_changes(json.loads(house.file), dice))
    tried = [("unchanged", json.loads(house.file)), *dice.sample(every, 2_000 if FULL else 30)]
    native = [judged(encode(changed), trust) for _, changed in tried]
    asked: list[str] = []

    def nothing(name: str) -> bool:
        asked.append(name)
        return False

    monkeypatch.setattr(curves, "_has", nothing)
    for (told, changed), due in zip(tried, native, strict=True):
        assert judged(encode(changed), trust) == due, told
    assert {"nacl", "coincurve", "sha3"} <= set(asked)
    first = native[0]
    assert isinstance(first, Report) and first.of("attestation").verdict is Word.HOLDS
    with capsys.disabled():
        print(f"\n{len(tried)} of {len(every) + 1} tallies judged by both halves")
