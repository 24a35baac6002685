"""RUNNERS: one file for each kind of work.

Owns: what inputs a kind takes, how its work is done on a device, which models there are.
Never touches: Django, the database, keys, receipts. A runner gets inputs and a folder, and gives files and facts.
Importing it loads neither torch nor diffusers: the web process checks inputs against the schemas here, and only a
worker calls `setup()`.

Read first: ``base.py``, the contract; then ``text_to_image.py``.
"""

from __future__ import annotations

from jobs.runners import text_to_image
from jobs.runners.base import BadInput, RunnerSpec

RUNNERS: dict[str, RunnerSpec] = {spec.kind: spec for spec in (text_to_image.SPEC,)}


def runner_for(kind: object) -> RunnerSpec:
    """Give what is known of a kind of work.

    Raises: BadInput.
    """
    if not isinstance(kind, str) or kind not in RUNNERS:
        raise BadInput("kind", kind, f"must be one of {', '.join(RUNNERS)}")
    return RUNNERS[kind]
