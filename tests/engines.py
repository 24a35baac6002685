"""Give the tests real engines: a PostgreSQL and a Valkey of their own, and a chain for those that ask.

A pytest plugin (`-p tests.engines`): it starts them in a temporary data folder before Django reads
its settings, and stops them at the end. An engine that the environment names already (DATABASE_URL,
CELERY_BROKER_URL, CHAIN_RPC_URL) is used as it is.
"""

import os
import shutil
import tempfile
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest

from config.embedded import chain, postgres, process, redis

PREFIX = "tallystick-test-"
_stops: list[Callable[[], None]] = []


@pytest.hookimpl(wrapper=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> Generator[None, None, None]:
    """Start the engines; as a wrapper, before pytest-django's own hook reads the settings."""
    if not _only_tells(early_config):
        _start_engines()
    try:
        yield
    except BaseException:  # broken settings: pytest ends without its closing hooks
        pytest_unconfigure()
        raise


def pytest_unconfigure() -> None:
    """Stop in reverse what was started."""
    while _stops:
        _stops.pop()()


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The temporary data folder of this run."""
    return Path(os.environ["TALLYSTICK_DATA_DIR"])


@pytest.fixture(scope="session")
def chain_url(data_dir: Path) -> Iterator[str]:
    """The RPC address of an EVM node of this run, with a block a second."""
    if (named := os.environ.get("CHAIN_RPC_URL")) is not None:
        yield named
        return
    node = chain.start(data_dir)
    yield node.url
    node.stop()


def _start_engines() -> None:
    folder = _temporary_folder()
    # The developer's own house must not shine through: neither its settings nor its keys.
    os.environ["TALLYSTICK_DATA_DIR"] = str(folder)
    os.environ.setdefault("SECRET_KEY", "only-for-tests-" + folder.name)
    if "DATABASE_URL" not in os.environ:
        database = postgres.start(folder, durable=False)
        _stops.append(database.stop)
        # The superuser makes the test database; what the application's role may not do is tested by SET ROLE.
        os.environ["DATABASE_URL"] = os.environ["DATABASE_OWNER_URL"] = database.superuser_url
    if "CELERY_BROKER_URL" not in os.environ:
        broker = redis.start(folder)
        _stops.append(broker.stop)
        os.environ["CELERY_BROKER_URL"] = broker.url
        os.environ.setdefault("CACHE_URL", broker.cache_url)


def _only_tells(config: pytest.Config) -> bool:
    told = config.known_args_namespace
    return bool(told.help or told.version)


def _temporary_folder() -> Path:
    _sweep()
    folder = Path(tempfile.mkdtemp(prefix=PREFIX))
    (folder / "owner").write_text(f"{os.getpid()} {process.birth(os.getpid())}\n")
    _stops.append(lambda: _remove(folder))
    return folder


def _sweep() -> None:
    """Remove the folders of runs that were killed; their engines died with them."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        if (folder / "owner").exists() and process.recorded(folder / "owner") is None:
            _remove(folder)


def _remove(folder: Path) -> None:
    shutil.rmtree(process.socket_dir(folder), ignore_errors=True)
    shutil.rmtree(folder, ignore_errors=True)
