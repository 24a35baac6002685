"""Name the models that a house offers, so that a client asks for a name and never for a path.

Ours lie in `models/`, each with its training script and card. A house adds its own by the setting TALLYSTICK_MODELS,
a JSON object of name -> path or hub id: `{"sd-1.5": "stable-diffusion-v1-5/stable-diffusion-v1-5"}`.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

from jobs.runners.base import BadInput

OURS = {"tiny-shapes": str(Path(__file__).parent / "models" / "tiny-shapes")}
DEFAULT = "tiny-shapes"

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")


class BadCatalogue(ValueError):
    """TALLYSTICK_MODELS is not a JSON object of name -> path or hub id."""


def models(setting: str | None = None) -> dict[str, str]:
    """List all models: name -> path or hub id. Without a setting given, the environment's counts.

    A house may replace one of ours under its name.
    Raises: BadCatalogue.
    """
    text = os.environ.get("TALLYSTICK_MODELS", "") if setting is None else setting
    if not text.strip():
        return dict(OURS)
    try:
        added = json.loads(text)
    except ValueError as error:
        raise BadCatalogue(f"TALLYSTICK_MODELS is not JSON: {error}") from error
    if not isinstance(added, dict):
        raise BadCatalogue("TALLYSTICK_MODELS must be a JSON object of name -> path or hub id")
    for name, reference in added.items():
        if not _NAME.fullmatch(name):
            raise BadCatalogue(f"TALLYSTICK_MODELS: {name!r} is no name (a-z, 0-9, '.', '_', '-', at most 63)")
        if not isinstance(reference, str) or not reference:
            raise BadCatalogue(f"TALLYSTICK_MODELS: {name} must have a path or hub id, has {reference!r}")
    return OURS | added


def reference_of(name: object, setting: str | None = None) -> str:
    """Give the path or hub id of a model that a client named.

    Raises: BadInput.
    """
    known = models(setting)
    if not isinstance(name, str) or name not in known:
        raise BadInput("model", name, f"must be one of {', '.join(sorted(known))}")
    return known[name]
