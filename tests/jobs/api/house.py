"""A house for the API's tests: keys, certificates and a log, no chain; rows roll back after each test."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.cache import cache

from config import founding
from jobs.api import throttling
from tests.jobs.api.cast import Program, program


@pytest.fixture(scope="session")
def house_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("house")


@pytest.fixture
def house(settings: Any, house_folder: Path, db: None) -> Iterator[None]:
    """Found a house without a chain."""
    from jobs import admission

    settings.DATA_DIR = house_folder
    settings.KEYS_DIR = house_folder / "keys"
    settings.STORE_DIR = house_folder / "store"
    settings.TLOG_DIR = house_folder / "tlog"
    settings.LOG_ORIGIN = "tests.invalid/api"
    settings.CHAIN_RPC_URL = ""
    settings.CHECKPOINT_SECONDS = 0.0
    admission.hub_signer.cache_clear()
    founding.found(lambda _line: None)
    cache.clear()
    throttling.forget()
    yield
    admission.hub_signer.cache_clear()


@pytest.fixture
def ada(house: None) -> Program:
    """The client that asks."""
    return program("ada")


@pytest.fixture
def mallory(house: None) -> Program:
    """Another tenant, which may see nothing of Ada's."""
    return program("mallory")
