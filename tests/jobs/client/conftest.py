"""One house for all of the verifier's tests, and its tally as a file: made once, changed in copies."""

from pathlib import Path

import pytest

from jobs.client.trust import Trust
from tests.jobs.client.house import House


@pytest.fixture(scope="session")
def house(tmp_path_factory: pytest.TempPathFactory) -> House:
    """An honest house, whose owner discloses two inputs."""
    return House(tmp_path_factory.mktemp("house"), disclosed=("prompt", "steps"))


@pytest.fixture(scope="session")
def trust(house: House) -> Trust:
    """Cy's trust file."""
    return house.trust()


@pytest.fixture
def folder(tmp_path: Path, house: House) -> Path:
    """A folder for another house that has the same certificates."""
    (tmp_path / "c2pa").symlink_to(house.folder / "c2pa")
    assert house.authority.folder.exists()
    return tmp_path


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the program keeps for its user is kept elsewhere in tests."""
    monkeypatch.setenv("TALLYSTICK_HOME", str(tmp_path_factory.mktemp("home")))
