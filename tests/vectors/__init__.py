"""Published vectors: read them here, and see README.md for where each comes from."""

import json
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


def vectors(name: str) -> Any:
    """Read one file of vectors."""
    return json.loads((HERE / f"{name}.json").read_text(encoding="utf-8"))
