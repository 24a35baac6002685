"""Make any text safe to print: a tally may come from anyone, and a terminal obeys what it is sent. Pure."""

import json
from typing import Any


def one_line(value: Any) -> str:
    """Write anything on one line, without a character that a terminal would obey."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return "".join(character if character.isprintable() else " " for character in text)
