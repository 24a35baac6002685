"""A whole house in this process: keys, certificates, log and providers, with the engines of the run."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from config import founding
from receipts.models import Tenant


@pytest.fixture
def house(settings: Any, tmp_path: Path, transactional_db: None, chain_url: str) -> Iterator[dict[str, Any]]:
    """Found a house with contracts on the run's chain, in folders of this test."""
    from jobs import admission, worker

    settings.DATA_DIR = tmp_path
    settings.KEYS_DIR = tmp_path / "keys"
    settings.STORE_DIR = tmp_path / "store"
    settings.TLOG_DIR = tmp_path / "tlog"
    settings.LOG_ORIGIN = "tests.invalid/flow"
    settings.CHAIN_RPC_URL = chain_url
    settings.ANCHOR_INTERVAL = 0
    settings.CHECKPOINT_SECONDS = 0.0
    admission.hub_signer.cache_clear()
    worker.provider_signer.cache_clear()
    told = founding.found(lambda _line: None)
    settings.REGISTER_ADDRESS = told["register_address"]
    settings.TOKEN_ADDRESS = told["token_address"]
    settings.MINTER_ADDRESS = told["minter_address"]
    yield told
    admission.hub_signer.cache_clear()
    worker.provider_signer.cache_clear()


@pytest.fixture
def ada(house: dict[str, Any]) -> Tenant:
    """The client that asks."""
    return Tenant.objects.get(pk="ada")
