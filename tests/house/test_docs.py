"""What README and documentation show is true of the code."""

import ast
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.management import get_commands, load_command_class
from django.test import Client
from django.urls import resolve

from config.docs import CONTENTS, FOLDER, anchor_of, render_page
from jobs.client import cli, verify
from jobs.client.trust import CLAIMS
from jobs.states import AttemptState, EvidenceState, JobState
from minting.models import MintState
from receipts import log
from receipts.keys import ROLES
from receipts.models.numbers import NumbersState
from receipts.models.transactions import TransactionState
from tests.house.generated import MADE, made_part
from tests.house.tree import ROOT

PAGES = [ROOT / "README.md", *sorted(FOLDER.rglob("*.md"))]
NAMES = sorted(str(path.relative_to(FOLDER).with_suffix("")).removesuffix("/index") for path in PAGES[1:])
EACH_PAGE = pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))


def blocks(text: str, language: str) -> Iterator[str]:
    yield from re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def commands(program: str) -> list[tuple[Path, str]]:
    """Every command line of a program in the pages' shell blocks, joined where it goes on."""
    found = []
    for page in PAGES:
        for block in blocks(page.read_text(), "sh"):
            lines = block.replace("\\\n", " ").splitlines()
            found += [(page, line.split("   ")[0]) for line in lines if line.startswith(program)]
    return found


# --- made from the code --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MADE)
def test_what_is_made_from_the_code_is_what_the_page_shows(name: str) -> None:
    """When it is not: `.venv/bin/python -m tests.house.generated`, and read what changed."""
    begins, make = MADE[name]
    assert made_part((ROOT / name).read_text(), begins) == make()


# --- commands --------------------------------------------------------------------------------------------


def test_the_readme_shows_two_commands_first() -> None:
    first, second = list(blocks((ROOT / "README.md").read_text(), "sh"))[:2]
    assert (first.strip(), second.strip()) == ("python3 manage.py demo", "python3 manage.py test")


MANAGE = commands("python3 manage.py")
TALLYSTICK = commands(".venv/bin/tallystick") + commands("tallystick")


@pytest.mark.parametrize(("page", "line"), MANAGE, ids=[line for _, line in MANAGE])
def test_every_manage_command_of_the_pages_exists_and_takes_its_options(page: Path, line: str) -> None:
    _, _, name, *options = shlex.split(line.split(" > ")[0])
    assert name in get_commands(), page
    if name != "test":  # it passes its arguments on to pytest
        command = load_command_class(get_commands()[name], name)
        command.create_parser("manage.py", name).parse_args(options)


@pytest.mark.parametrize(("page", "line"), TALLYSTICK, ids=[line for _, line in TALLYSTICK])
def test_every_tallystick_command_of_the_pages_is_understood(page: Path, line: str) -> None:
    cli.parser().parse_args(shlex.split(line)[1:])


@pytest.mark.parametrize(
    "name",
    ["demo", "up", "down", "test", "found_house", "sign_wellknown", "keys", "check_log", "recover_log", "witness"],
)
def test_every_command_says_what_it_does_in_a_sentence(name: str) -> None:
    help_text = load_command_class(get_commands()[name], name).help
    assert help_text.endswith("."), help_text


def test_every_address_of_the_guide_is_answered() -> None:
    rows = re.findall(r"`(?:GET|POST) (/[^`,]+?)`", (FOLDER / "guide.md").read_text())
    assert len(rows) >= 10
    for address in rows:
        path = address.replace("JOB", "job_" + "0" * 26).replace("NID", "bafkrei" + "a" * 52).replace("…", "0/000")
        resolve(path)


# --- settings ----------------------------------------------------------------------------------------------


def settings_read() -> dict[str, str | None]:
    """Every name that settings.py reads, with its default where that is a plain value."""
    found: dict[str, str | None] = {"TALLYSTICK_DATA_DIR": None}
    for node in ast.walk(ast.parse((ROOT / "config/settings.py").read_text())):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        if isinstance(node.func.value, ast.Name) and node.func.value.id == "env" and node.args:
            assert isinstance(node.args[0], ast.Constant)
            default = next((word.value for word in node.keywords if word.arg == "default"), None)
            plain = default.value if isinstance(default, ast.Constant) else None
            found[str(node.args[0].value)] = None if plain in (None, "") else str(plain)
    return found


READ = settings_read()


def test_the_page_of_settings_lists_exactly_what_is_read() -> None:
    text = (FOLDER / "settings.md").read_text().split("## Of single processes")[0]
    listed = re.findall(r"^\| `([A-Z0-9_]+)` \|", text, re.MULTILINE)
    assert sorted(listed) == sorted(READ)
    assert len(set(listed)) == len(listed)


@pytest.mark.parametrize(("name", "default"), [pair for pair in READ.items() if pair[1]], ids=lambda value: str(value))
def test_the_page_of_settings_tells_the_default(name: str, default: str) -> None:
    row = re.search(rf"^\| `{name}` \| ([^|]+) \|", (FOLDER / "settings.md").read_text(), re.MULTILINE)
    assert row is not None
    assert row[1].strip() == f"`{default}`"


def test_the_example_environment_names_every_setting() -> None:
    text = (ROOT / ".env.example").read_text()
    named = set(re.findall(r"^#?\s?([A-Z][A-Z0-9_]+)=", text, re.MULTILINE))
    assert READ.keys() - named == set()


def test_the_example_environment_says_of_each_secret_who_could_hurt_whom() -> None:
    text = (ROOT / ".env.example").read_text()
    for secret in re.findall(r"^([A-Z_]*(?:KEY|PASSWORD|SECRET))=", text, re.MULTILINE):
        before = text[: text.index(f"\n{secret}=")].rsplit("\n\n", 1)[-1]
        assert re.search(r"[Ww]ho (has|reaches|steals|holds)|can ", before.split("\n#")[-1] + before), secret


# --- what the pages say --------------------------------------------------------------------------------------


def test_the_threat_model_has_a_row_for_each_claim_in_order() -> None:
    rows = re.findall(r"^\| `([a-z-]+)` \|", (FOLDER / "threat-model.md").read_text(), re.MULTILINE)
    assert tuple(rows) == CLAIMS


def test_the_pages_name_every_exit_code_of_verify() -> None:
    codes = {getattr(verify, name) for name in dir(verify) if name.startswith("EXIT_")}
    rows = re.findall(r"^\| (\d) \|", (FOLDER / "tally.md").read_text(), re.MULTILINE)
    assert {int(code) for code in rows} == codes
    sentence = next(line for line in (ROOT / "README.md").read_text().splitlines() if line.startswith("Exit codes:"))
    assert {int(code) for code in re.findall(r"\b(\d) ", sentence)} == codes


def test_operations_tell_of_every_way_in_which_the_log_stands_still() -> None:
    text = (FOLDER / "operations.md").read_text()
    for error in (log.LogIsOlder, log.LogForked, log.RootDisagrees, log.ClockWentBack):
        assert f"| `{error.__name__}` |" in text


def test_operations_tell_what_a_thief_of_each_key_could_do() -> None:
    rows = re.findall(r"^\| `([a-z0-9]+)` \|", (FOLDER / "operations.md").read_text(), re.MULTILINE)
    # A reporter holds a key of its own house.
    assert set(ROLES) - {"reporter"} == {row for row in rows if row in ROLES}


@pytest.mark.parametrize("machine", [JobState, AttemptState, EvidenceState, TransactionState, MintState, NumbersState])
def test_the_architecture_page_names_every_state(machine: Any) -> None:
    text = (FOLDER / "architecture.md").read_text()
    assert [state.value for state in machine if state.value not in text] == (
        [EvidenceState.NONE] if machine is EvidenceState and "none" not in text else []
    )


def test_the_architecture_page_points_to_files_that_are_there() -> None:
    for page in PAGES:
        for named in re.findall(
            r"`((?:jobs|receipts|minting|provenance|config|tests|templates)/[a-z0-9_/.-]+)`", page.read_text()
        ):
            assert (ROOT / named).exists(), f"{page.name}: {named}"


# --- links ------------------------------------------------------------------------------------------------------


@EACH_PAGE
def test_every_link_leads_somewhere(page: Path) -> None:
    text = page.read_text()
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"https?://", target):
            continue
        file, _, anchor = target.partition("#")
        there = (page.parent / file).resolve() if file else page
        assert there.is_file(), f"{page.name}: {target}"
        if anchor:
            anchors = set(re.findall(r'id="([^"]+)"', render_page(there.read_text()).body))
            assert anchor in anchors, f"{page.name}: {target}"


@EACH_PAGE
def test_a_page_opens_with_one_title(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    assert len(re.findall(r"^# ", text, re.MULTILINE)) == 1
    assert text.startswith("# ")
    assert "<!--" not in text


# --- shown by the house -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_every_page_is_shown_to_everybody(client: Client, name: str) -> None:
    answer = client.get(f"/docs/{name}")
    text = answer.content.decode()
    assert answer.status_code == 200
    assert "<h1 id=" in text
    for target in set(re.findall(r'href="(/docs/[^"#]*)', text)):
        assert client.get(target).status_code == 200, target


def test_the_contents_name_every_page_but_the_single_decisions() -> None:
    assert set(CONTENTS) == {name for name in NAMES if not name.startswith("decisions/")}


@pytest.mark.parametrize("claim", CLAIMS)
def test_a_verdict_links_to_its_row(client: Client, claim: str) -> None:
    assert f'<tr id="{claim}">' in client.get("/docs/threat-model").content.decode()


@pytest.mark.parametrize(
    "path",
    [
        "/docs/nowhere",
        "/docs/../manage",
        "/docs/page.html",
        "/docs/..%2f..%2fREADME",
        "/docs/images/nothing.png",
        "/docs/a//b",
    ],
)
def test_nothing_but_pages_is_shown(client: Client, path: str) -> None:
    assert client.get(path).status_code == 404


def test_html_in_a_page_is_shown_and_not_run() -> None:
    assert "<script>" not in render_page("# A\n\n<script>alert(1)</script>").body


@pytest.mark.parametrize(
    ("words", "anchor"),
    [("Exit codes", "exit-codes"), ("Rooms: calls go down", "rooms-calls-go-down"), ("What's in `it`", "whats-in-it")],
)
def test_a_heading_has_an_anchor(words: str, anchor: str) -> None:
    assert anchor_of(words) == anchor
    assert f'id="{anchor}"' in render_page(f"# {words}").body


SPELLED: dict[str, Callable[[str], bool]] = {
    "a promise about the future": lambda text: (
        not re.search(r"\b(coming soon|will be added|roadmap)\b", text, re.IGNORECASE)
    ),
    "praise of itself": lambda text: (
        not re.search(r"\b(seamless|powerful|robust|blazing|cutting-edge|state-of-the-art)", text, re.IGNORECASE)
    ),
}


@EACH_PAGE
@pytest.mark.parametrize("what", SPELLED)
def test_a_page_holds_no_advertisement(page: Path, what: str) -> None:
    assert SPELLED[what](page.read_text()), what
