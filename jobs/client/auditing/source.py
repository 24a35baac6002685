"""Read a published log, from a folder or over HTTP: bounded in size and time, and never believed.

Source: C2SP tlog-tiles: a partial tile may be gone once its full tile is there; the full one is read then.
"""

import http.client
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import urlsplit

from jobs.client.verdicts import Unknown
from receipts.merkle import HASH_SIZE
from receipts.tiles import WIDTH, Tile

CHECKPOINT: Final = "checkpoint"
_CHECKPOINT_LIMIT: Final = 1024 * 1024
_TILE_LIMIT: Final = WIDTH * HASH_SIZE
_BUNDLE_LIMIT: Final = WIDTH * (2 + 0xFFFF)
_TRIES: Final = 5
_TIMEOUT_SECONDS: Final = 30.0
_LONGEST_PAUSE_SECONDS: Final = 20.0
_MAY_PASS: Final = frozenset({408, 425, 429, 500, 502, 503, 504})


class NoLogThere(Exception):
    """There is no log to audit at this place."""


class Source(Protocol):
    """A place that a log is published at. `get` gives None for what is not there."""

    name: str

    def get(self, path: str, limit: int) -> bytes | None:
        """Read one file of at most `limit` bytes. Raises: Unknown, when it can't be had."""
        ...


class Folder:
    """A log in a folder, as an export lays it out and as the house publishes it."""

    def __init__(self, folder: Path) -> None:
        self.name = str(folder)
        self._folder = folder

    def get(self, path: str, limit: int) -> bytes | None:
        try:
            with (self._folder / path).open("rb") as stream:
                data = stream.read(limit + 1)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None
        except OSError as error:
            raise Unknown(f"{path} can't be read: {error.strerror}") from None
        return _bounded(path, data, limit)


class Address:
    """A log behind an address: one connection that stays open, a bounded number of tries, no redirects."""

    def __init__(self, url: str, *, sleep: Callable[[float], None] = time.sleep) -> None:
        parts = urlsplit(url)
        try:
            port = parts.port
        except ValueError:
            raise NoLogThere(f"{url[:200]} is no address: its port is no number up to 65535") from None
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise NoLogThere(f"{url[:200]} is no address of a log: http(s)://host/path/ is due")
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self.name = url
        self._connection = kind(parts.hostname, port, timeout=_TIMEOUT_SECONDS)
        self._prefix = parts.path.rstrip("/") + "/"
        self._sleep = sleep

    def get(self, path: str, limit: int) -> bytes | None:
        reason = ""
        for turn in range(_TRIES):
            if turn:
                self._sleep(min(_LONGEST_PAUSE_SECONDS, 0.5 * 2**turn))
            try:
                self._connection.request("GET", self._prefix + path, headers={"Accept-Encoding": "identity"})
                answer = self._connection.getresponse()
                data = answer.read(limit + 1)
            except (OSError, http.client.HTTPException) as error:
                self._connection.close()
                reason = "no answer in time" if isinstance(error, TimeoutError) else "the connection failed"
                continue
            if not answer.isclosed():
                self._connection.close()  # more than the limit is left unread: the next answer would begin with it
            if answer.status == http.HTTPStatus.OK:
                return _bounded(path, data, limit)
            if answer.status in (http.HTTPStatus.NOT_FOUND, http.HTTPStatus.GONE):
                return None
            reason = f"the answer was {answer.status}"
            if answer.status not in _MAY_PASS:
                break
        raise Unknown(f"{path} can't be fetched from {self.name}: {reason}")


def source_at(place: str) -> Source:
    """Find the log at a folder or an address. Raises: NoLogThere."""
    if place.startswith(("http://", "https://")):
        return Address(place)
    folder = Path(place)
    for candidate in (folder / "log", folder):
        if (candidate / CHECKPOINT).is_file():
            return Folder(candidate)
    raise NoLogThere(f"{place} holds no log: neither checkpoint nor log/checkpoint is there")


def read_checkpoint(source: Source) -> str:
    """Read the published checkpoint; its signature is not looked at. Raises: NoLogThere, Unknown."""
    data = source.get(CHECKPOINT, _CHECKPOINT_LIMIT)
    if data is None:
        raise NoLogThere(f"{source.name} publishes no checkpoint")
    return data.decode(errors="replace")


def read_tile(source: Source, tile: Tile) -> bytes:
    """Read a tile; where a partial one is gone, the full one that replaced it. Raises: Unknown."""
    limit = _BUNDLE_LIMIT if tile.level is None else _TILE_LIMIT
    for candidate in dict.fromkeys((tile, Tile(tile.level, tile.index))):
        data = source.get(candidate.path(), limit)
        if data is not None:
            return data
    raise Unknown(f"{tile.path()} is missing at {source.name}")


def _bounded(path: str, data: bytes, limit: int) -> bytes:
    if len(data) > limit:
        raise Unknown(f"{path} is longer than the {limit} bytes that are read")
    return data
