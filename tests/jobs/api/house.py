"""A house for the API's tests: keys, certificates and a log, no chain; rows roll back after each test."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.cache import cache

from config import founding
from jobs.api import throttling
from provenance.authority import make_authority
from receipts.keyring import add_key
from receipts.keys import ed25519_signer
from receipts.log import found_log
from receipts.models import Tenant
from tests.jobs.api.cast import Program, program


@pytest.fixture(scope="session")
def house_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("house")


@pytest.fixture
def house(settings: Any, house_folder: Path, tmp_path: Path, db: None) -> Iterator[None]:
    """Found a house without a chain."""
    from jobs import admission

    settings.DATA_DIR = house_folder
    settings.KEYS_DIR = house_folder / "keys"
    settings.STORE_DIR = house_folder / "store"
    settings.TLOG_DIR = tmp_path / "tlog"  # a log has one history, and each test another
    settings.LOG_ORIGIN = "tests.invalid/api"
    settings.CHAIN_RPC_URL = ""
    settings.CHECKPOINT_SECONDS = 0.0
    admission.hub_signer.cache_clear()
    founding.make_keys(lambda _line: None)
    make_authority(settings.KEYS_DIR / "c2pa", settings.C2PA_ORGANISATION)
    found_log(settings.LOG_ORIGIN)
    founding.register_keys()
    Tenant.objects.get_or_create(id="ada", defaults={"name": "Ada"})
    client_key = ed25519_signer("client", settings.KEYS_DIR).key_id
    add_key(role="client", alg="Ed25519", key_id=client_key, tenant=Tenant.objects.get(id="ada"))
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
