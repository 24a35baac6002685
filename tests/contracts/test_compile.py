"""The committed artifacts are what the sources compile to, byte for byte."""

import json
import shutil
import subprocess
from hashlib import sha256
from pathlib import Path

import pytest

from config.embedded import process
from config.embedded.anvil import npm

ROOT = Path(__file__).parent.parent.parent
SOURCES = [*sorted(ROOT.glob("*/contracts/*.sol")), ROOT / "tests/benchmarks/StoredRegister.sol"]
TOOLS = ["package.json", "package-lock.json", ".npmrc", "compile.mjs"]


@pytest.fixture(scope="module")
def compiler(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the pinned compiler and libraries into a folder of their own."""
    folder = tmp_path_factory.mktemp("compiler")
    for name in TOOLS:
        shutil.copy(Path(__file__).parent / name, folder)
    told = subprocess.run([*npm(), "ci"], cwd=folder, capture_output=True, text=True, env=process.environment())
    if told.returncode and any(word in told.stderr for word in ("ENOTFOUND", "ECONNREFUSED", "ETIMEDOUT", "EAI_AGAIN")):
        pytest.skip("no npm registry can be reached, so nothing can be compiled")
    assert told.returncode == 0, told.stderr
    return folder


@pytest.fixture(scope="module")
def compiled(compiler: Path) -> Path:
    """Compile all contracts once."""
    return compile_into(compiler, ROOT, compiler / "out")


def compile_into(compiler: Path, root: Path, out: Path, *options: str) -> Path:
    """Compile the contracts under `root` and give the folder that holds the artifacts."""
    command = [_node(), "compile.mjs", "--root", str(root), "--out", str(out), *options]
    subprocess.run(command, cwd=compiler, check=True, capture_output=True)
    return out


def _node() -> str:
    first = npm()[0]
    return first if len(npm()) > 1 else (shutil.which("node") or first)


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_a_source_compiles_to_its_committed_artifact(source: Path, compiled: Path) -> None:
    artifact = source.with_suffix(".json")
    assert artifact.read_bytes() == (compiled / artifact.relative_to(ROOT)).read_bytes()


def test_every_contract_has_an_artifact_that_names_its_source() -> None:
    assert [path.stem for path in SOURCES] == ["AIToken", "AITokenMinter", "CommitRegister", "StoredRegister"]
    for source in SOURCES:
        artifact = json.loads(source.with_suffix(".json").read_text())
        assert artifact["source"] == str(source.relative_to(ROOT))
        assert artifact["source_sha256"] == sha256(source.read_bytes()).hexdigest()
        assert artifact["compiler"]["settings"]["evmVersion"] == "cancun"


def test_another_source_compiles_to_other_bytes(compiler: Path, tmp_path: Path) -> None:
    source = tmp_path / "receipts/contracts/CommitRegister.sol"
    source.parent.mkdir(parents=True)
    text = (ROOT / "receipts/contracts/CommitRegister.sol").read_text()
    source.write_text(text.replace("Commit(msg.sender,", "Commit(address(0),"))
    compile_into(compiler, tmp_path, tmp_path, "--only", "CommitRegister")
    committed = json.loads((ROOT / "receipts/contracts/CommitRegister.json").read_text())
    assert json.loads(source.with_suffix(".json").read_text())["deployed_bytecode"] != committed["deployed_bytecode"]


def test_what_is_pinned_is_pinned_by_digest_and_names_no_host() -> None:
    lock = (Path(__file__).parent / "package-lock.json").read_text()
    packages = {name: item for name, item in json.loads(lock)["packages"].items() if name}
    assert all(item["integrity"].startswith("sha512-") for item in packages.values())
    assert "resolved" not in lock
    assert "registry" not in lock
