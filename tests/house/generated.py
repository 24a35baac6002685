"""The parts of pages that are made from the code. Run as a program, this writes them; a test holds them.

.venv/bin/python -m tests.house.generated
"""

import os
import re
from collections.abc import Callable
from pathlib import Path
from unittest import mock

from jobs.client import cli
from jobs.client.verify import STEPS
from receipts.events import EVENTS, About
from tests.house.tree import ROOT

_ABOUT = {About.JOB: "a job", About.PUBLIC: "the public", About.HOUSE: "the house"}


def events_table() -> str:
    """Every type of event: whom it is about, what it says, what its data holds; optional fields in brackets."""
    rows = ["| event | about | says | data |", "|---|---|---|---|"]
    for name, event in EVENTS.items():
        required = event.data["required"]
        fields = [f"`{field}`" if field in required else f"[`{field}`]" for field in event.data["properties"]]
        rows.append(f"| `{name}` | {_ABOUT[event.about]} | {event.says} | {', '.join(fields)} |")
    return "\n".join(rows)


def claims_table() -> str:
    """Every claim of the verifier, and for whom it would have to be false."""
    rows = ["| claim | false only if |", "|---|---|"]
    rows += [f"| `{step.claim}` | {step.false_only_if} |" for step in STEPS]
    return "\n".join(rows)


def verify_help() -> str:
    """What `tallystick verify --help` prints on a terminal of 100 columns."""
    with mock.patch.dict(os.environ, {"COLUMNS": "100"}):
        commands = next(action for action in cli.parser()._actions if hasattr(action, "choices") and action.choices)
        choices = commands.choices
        assert isinstance(choices, dict)
        shown: str = choices["verify"].format_help()
    return "$ .venv/bin/tallystick verify --help\n" + shown.rstrip()


# file -> (where the made part begins, what it is)
MADE: dict[str, tuple[str, Callable[[], str]]] = {
    "templates/docs/receipts.md": ("| event | about |", events_table),
    "templates/docs/tally.md": ("| claim | false only if |", claims_table),
    "README.md": ("$ .venv/bin/tallystick verify --help", verify_help),
}


def made_part(text: str, begins: str) -> str:
    """Cut the made part out of a page: from its first line to the end of its table or block."""
    start = text.index(begins)
    ends = re.search(r"\n\n(?![ a-z])|\n```|\Z" if begins.startswith("$") else r"\n\n|\n?\Z", text[start:])
    assert ends is not None
    return text[start : start + ends.start()]


def write(path: Path, begins: str, made: str) -> None:
    """Put the made part into its page."""
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace(made_part(text, begins), made), encoding="utf-8")


if __name__ == "__main__":
    for name, (begins, make) in MADE.items():
        write(ROOT / name, begins, make())
