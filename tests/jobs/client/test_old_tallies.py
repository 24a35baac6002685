"""A tally of every released version verifies for good: what was once evidence stays evidence."""

from pathlib import Path

import pytest

from jobs.client.trust import read_trust
from jobs.client.verdicts import Word
from jobs.client.verify import verify_tally

RELEASED = sorted((Path(__file__).parents[2] / "vectors" / "tallies").iterdir())
# Certificates end, and no time-stamp says when the file was signed: this one claim may not outlive them.
MAY_EXPIRE = "credential"


@pytest.mark.parametrize("folder", RELEASED, ids=lambda folder: str(folder.name))
def test_a_released_tally_still_holds(folder: Path) -> None:
    trust = read_trust((folder / "tallystick.trust.json").read_bytes())
    report = verify_tally(
        (folder / "job.tally.json").read_bytes(), trust, artifact=(folder / "picture.png").read_bytes()
    )
    told = {item.claim: (item.verdict, item.detail) for item in report.verdicts}
    for claim in trust.require:
        if claim != MAY_EXPIRE:
            assert told[claim][0] is Word.HOLDS, (claim, told[claim])


@pytest.mark.parametrize("folder", RELEASED, ids=lambda folder: str(folder.name))
def test_a_released_tally_that_was_changed_is_still_broken(folder: Path) -> None:
    trust = read_trust((folder / "tallystick.trust.json").read_bytes())
    data = (folder / "job.tally.json").read_bytes()
    changed = data.replace(b'\\"kind\\":\\"text-to-image\\"', b'\\"kind\\":\\"text-to-speech\\"', 1)
    assert changed != data
    report = verify_tally(changed, trust, artifact=(folder / "picture.png").read_bytes())
    assert any(item.verdict is Word.BROKEN for item in report.verdicts)


def test_every_released_version_is_here() -> None:
    assert [folder.name for folder in RELEASED] == ["0.1.0"]
