"""The cast: Ada asks, Bo provides, Cy audits, Mallory may not."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.jobs.cast import Bo, found_small_house


@pytest.fixture
def folders(settings: Any, tmp_path: Path) -> Path:
    """Folders of this test alone."""
    settings.DATA_DIR = tmp_path
    settings.KEYS_DIR = tmp_path / "keys"
    settings.STORE_DIR = tmp_path / "store"
    settings.TLOG_DIR = tmp_path / "tlog"
    settings.LOG_ORIGIN = "tests.invalid/jobs"
    settings.CHAIN_RPC_URL = ""
    settings.CHECKPOINT_SECONDS = 0.0
    return tmp_path


@pytest.fixture
def bo(folders: Path, db: None) -> Iterator[Bo]:
    """A house without a chain, Ada's tenant in it, and Bo, who serves one job at once and signs what he says."""
    yield from found_small_house()
