"""A founded house without a chain, its people, and one job that went all the way."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.test import Client

from config import founding
from jobs.models import User as Person
from tests.console import house
from tests.console.painter import Painter


@pytest.fixture
def founded(settings: Any, tmp_path: Path, db: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Person]]:
    """A house in folders of this test; gives its people."""
    yield from found(settings, tmp_path, monkeypatch, chain_url="")


def found(
    settings: Any, folder: Path, monkeypatch: pytest.MonkeyPatch, *, chain_url: str
) -> Iterator[dict[str, Person]]:
    """Found a house whose worker paints."""
    from jobs import admission, worker

    settings.DATA_DIR = folder
    settings.KEYS_DIR = folder / "keys"
    settings.STORE_DIR = folder / "store"
    settings.TLOG_DIR = folder / "tlog"
    settings.LOG_ORIGIN = "tests.invalid/console"
    settings.CHAIN_RPC_URL = chain_url
    settings.ANCHOR_INTERVAL = 0
    settings.CHECKPOINT_SECONDS = 0.0
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]  # the real one is slow on purpose
    caches = (admission.hub_signer, worker.provider_signer)
    for cache in caches:
        cache.cache_clear()
    monkeypatch.setattr(worker, "warm_runner", lambda _kind, _model: Painter())
    told = founding.found(lambda _line: None)
    if chain_url:
        settings.REGISTER_ADDRESS = told["register_address"]
        settings.TOKEN_ADDRESS = told["token_address"]
        settings.MINTER_ADDRESS = told["minter_address"]
    yield house.people()
    for cache in caches:
        cache.cache_clear()


@pytest.fixture
def done(founded: dict[str, Person]) -> str:
    """A signed job that is complete, published in the log."""
    job_id = house.submit("a red circle", key="first")
    house.work_off(job_id)
    return job_id


@pytest.fixture
def as_auditor(client: Client, founded: dict[str, Person]) -> Client:
    """A browser in which Cy is signed in."""
    client.force_login(founded["auditor"])
    return client


@pytest.fixture
def as_operator(client: Client, founded: dict[str, Person]) -> Client:
    """A browser in which an operator is signed in."""
    client.force_login(founded["op"])
    return client
