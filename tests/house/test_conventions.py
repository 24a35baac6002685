"""How the code reads, as far as a program can tell."""

import ast
import re
from pathlib import Path

import pytest

from tests.house.tree import APPS, ROOT, dotted, modules, texts, tracked

TOP_LEVEL = {
    ".ci",
    ".dockerignore",
    ".env.example",
    ".gitignore",
    "LICENSE",
    "README.md",
    "config",
    "docker-compose.yml",
    "jobs",
    "manage.py",
    "minting",
    "provenance",
    "pyproject.toml",
    "receipts",
    "templates",
    "tests",
}
# Who changes the state of a row: the functions that hold the compare-and-swap, and nobody else.
MOVERS = {
    "jobs.lifecycle": {"move", "move_evidence", "_move_attempt"},
    "receipts.chain.sender": {"move"},
    "receipts.committers.numbers": {"move"},
    "minting.attest": {"move"},
}
MACHINES = {"state", "evidence"}
# Where the environment is read besides config/settings.py, and why.
ENVIRONMENT_READERS = {
    "config.settings": "reads every setting",
    "config.celery": "names the settings module",
    "config.wsgi": "names the settings module",
    "jobs.tasks": "whose worker this process is, told by whoever starts it",
    "receipts.keys": "keys come from the environment by role, never through settings that a page could show",
}
# They run before Django or without it.
STARTERS = ("config.bootstrap", "config.embedded", "config.management", "jobs.client", "jobs.runners")


def test_the_top_level_holds_what_it_should_and_nothing_else() -> None:
    assert {path.parts[0] for path in tracked()} <= TOP_LEVEL


@pytest.mark.parametrize("app", APPS)
def test_every_app_opens_with_what_it_owns_and_what_it_never_does(app: str) -> None:
    words = ast.get_docstring(ast.parse((ROOT / app / "__init__.py").read_text())) or ""
    assert re.match(r"[A-Z' ,]+[:,]", words), f"{app}/__init__.py opens with its name in capitals"
    for word in ("Owns:", "Never", "Read first:"):
        assert re.search(rf"^{word}", words, re.MULTILINE), f"{app}/__init__.py says {word}"
    for named in re.findall(r"``([a-z_/]+\.py)``", words):
        assert (ROOT / app / named).exists(), f"{app}/__init__.py points to {named}"


def test_no_module_hides_behind_an_empty_name() -> None:
    for path in tracked():
        assert path.stem not in {"services", "utils", "helpers", "misc", "common", "signals"}, path


def test_every_module_says_what_it_is_for() -> None:
    for path, tree in modules(*APPS, "tests"):
        if tree.body and path.name not in ("apps.py", "conftest.py"):
            assert ast.get_docstring(tree), path


def public_functions(tree: ast.Module) -> list[ast.FunctionDef]:
    """The functions that others call: at the top of the module, and methods of its public classes."""
    found = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    for node in tree.body:
        protocol = isinstance(node, ast.ClassDef) and any(ast.unparse(base) == "Protocol" for base in node.bases)
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_") and not protocol:
            found += [item for item in node.body if isinstance(item, ast.FunctionDef)]
    return [node for node in found if not node.name.startswith("_")]


def test_every_public_function_of_the_ledger_has_a_docstring() -> None:
    missing = [
        f"{path}: {node.name}"
        for path, tree in modules("receipts")
        if not {"admin", "console", "templatetags", "api", "management"} & {path.stem, *path.parts}
        for node in public_functions(tree)
        if not ast.get_docstring(node) and not node.decorator_list
    ]
    assert missing == []


def test_every_exception_says_in_a_sentence_when_it_is_raised() -> None:
    for path, tree in modules():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef) and any(
                isinstance(base, ast.Name) and base.id.endswith(("Error", "Exception")) for base in node.bases
            ):
                assert ast.get_docstring(node), f"{path}: {node.name}"


def state_writes(tree: ast.AST, module: str) -> list[str]:
    """Name every place that writes the state of a machine's row outside of its mover."""
    allowed = MOVERS.get(module, set())
    found = []
    for function in [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]:
        if function.name in allowed:
            continue
        for node in ast.walk(function):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "update":
                found += [
                    f"{module}.{function.name}: update({word.arg}=…)" for word in node.keywords if word.arg in MACHINES
                ]
            if isinstance(node, ast.Assign | ast.AugAssign):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                found += [
                    f"{module}.{function.name}: .{target.attr} = …"
                    for target in targets
                    if isinstance(target, ast.Attribute)
                    and target.attr in MACHINES
                    and not (isinstance(target.value, ast.Name) and target.value.id == "self")
                ]
    return found


def test_a_state_changes_only_through_its_move() -> None:
    found = [line for path, tree in modules() for line in state_writes(tree, dotted(path))]
    assert found == []


@pytest.mark.parametrize(
    "code", ["def f(job):\n    job.state = 'completed'", "def f(rows):\n    rows.filter(pk=1).update(state='failed')"]
)
def test_a_state_written_elsewhere_would_be_found(code: str) -> None:
    assert state_writes(ast.parse(code), "jobs.somewhere")


def test_the_environment_is_read_in_one_place() -> None:
    for path, tree in modules():
        name = dotted(path)
        if name in ENVIRONMENT_READERS or name.startswith(STARTERS):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv"):
                assert not (isinstance(node.value, ast.Name) and node.value.id == "os"), path


def test_no_error_is_passed_over_in_silence() -> None:
    for path, tree in modules(*APPS, "tests"):
        for node in ast.walk(tree):
            if isinstance(node, ast.ExceptHandler):
                assert not (len(node.body) == 1 and isinstance(node.body[0], ast.Pass)), f"{path}:{node.lineno}"
                assert node.type is not None, f"{path}:{node.lineno} catches everything, also what stops the process"


def test_no_work_is_left_for_later_in_a_comment() -> None:
    marks = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")
    for path, text in texts(".py", ".html", ".md", ".sol", ".css", ".js", ".yml", ".toml"):
        if path != Path("tests/house/test_conventions.py"):
            assert not marks.search(text), path


def test_no_business_flows_through_signals() -> None:
    for path, tree in modules():
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom):
                assert node.module not in ("django.db.models.signals", "django.dispatch"), path


def test_tests_wait_for_conditions_and_never_for_time_alone() -> None:
    """A sleep in a test is either too short on a busy machine or too long on every other one."""
    for path, tree in modules("tests"):
        for node in ast.walk(tree):
            sleeps = isinstance(node, ast.Call) and ast.unparse(node.func) in ("time.sleep", "sleep")
            if sleeps:
                loops = [
                    loop
                    for loop in ast.walk(tree)
                    if isinstance(loop, ast.While | ast.For) and any(inner is node for inner in ast.walk(loop))
                ]
                assert loops, f"{path}:{node.lineno} sleeps outside of a loop that waits for a condition"  # type: ignore[attr-defined]


def test_every_test_is_a_sentence() -> None:
    for path, tree in modules("tests"):
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                assert len(node.name.split("_")) >= 3, f"{path}: {node.name}"


PRIVATE = re.compile(
    r"/work/(?!flow)|/root/|/home/[a-z]+/|/Users/|\b[a-z0-9-]+\.(?:internal|corp|lan)\b|artifactory|nexus\b"
)
ADDRESS = re.compile(r"\b(?:10\.\d{1,3}\.\d{1,3}\.\d{1,3}|192\.168\.\d{1,3}\.\d{1,3})\b")


def test_no_file_names_a_private_host_or_path() -> None:
    for path, text in texts():
        if path != Path("tests/house/test_conventions.py"):
            found = PRIVATE.search(text) or (path.parts[0] != "tests" and ADDRESS.search(text))
            assert not found, f"{path}: {found.group() if found else ''}"


def test_lock_files_name_no_host_of_a_registry() -> None:
    for path, text in texts(".txt", ".in", ".json", ".npmrc"):
        if "requirements" in path.parts or path.name == "package-lock.json":
            assert not re.search(r"--(extra-)?index-url|--find-links|\"resolved\"", text), path


TEMPLATES = [path for path in tracked() if path.parts[0] == "templates" and path.suffix in (".html", ".txt")]
STATIC = [path for path in tracked() if "static" in path.parts and path.suffix in (".css", ".js", ".svg")]


@pytest.mark.parametrize("path", [*TEMPLATES, *STATIC], ids=str)
def test_pages_load_nothing_from_elsewhere(path: Path) -> None:
    text = (ROOT / path).read_text()
    found = set(re.findall(r"(?:https?:)?//[a-z0-9.-]+\.[a-z]{2,}[^\s\"'<>)]*", text))
    assert {url for url in found if not url.startswith("http://www.w3.org/")} == set()


def test_secrets_of_tests_are_the_only_secrets() -> None:
    """A private key or a token in the repository is everybody's."""
    secret = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----|ed25519:[A-Za-z0-9_-]{43}\b|secp256k1:0x[0-9a-f]{64}\b")
    for path, text in texts():
        assert not secret.search(text), path
