"""Name bytes by their SHA-256, in one pass and without holding them in memory. Pure."""

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple, NewType

from provenance.errors import NotADigest, TooLarge

Sha256 = NewType("Sha256", str)

CHUNK_BYTES: Final = 1024 * 1024
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")


class Digested(NamedTuple):
    """What one pass over some bytes found."""

    sha256: Sha256
    size: int


def as_sha256(value: object) -> Sha256:
    """Insist that `value` is a digest as we write it.

    Raises: NotADigest, also for upper case: one blob has one name, and a name never leads out of its folder.
    """
    if not isinstance(value, str) or not _DIGEST.fullmatch(value):
        raise NotADigest(value)
    return Sha256(value)


def digest_bytes(data: bytes) -> Sha256:
    """Name bytes that are in memory anyway."""
    return Sha256(hashlib.sha256(data).hexdigest())


def digest_stream(stream: BinaryIO, *, max_bytes: int | None = None) -> Digested:
    """Read a stream to its end and name what came. Raises: TooLarge."""
    tally = RunningDigest(max_bytes=max_bytes)
    for _ in tally.over(stream):
        pass
    return tally.result()


def digest_file(path: Path, *, max_bytes: int | None = None) -> Digested:
    """Name the bytes of one file. Raises: TooLarge, OSError."""
    with path.open("rb") as stream:
        return digest_stream(stream, max_bytes=max_bytes)


class RunningDigest:
    """Digests what passes through, so that a copy and its name come from the same single read."""

    def __init__(self, *, max_bytes: int | None = None) -> None:
        self._hash = hashlib.sha256()
        self._size = 0
        self._max_bytes = max_bytes

    def over(self, stream: BinaryIO) -> Iterator[bytes]:
        """Yield the stream's chunks after counting them. Raises: TooLarge, before the chunk that is too much."""
        while chunk := stream.read(CHUNK_BYTES):
            self._size += len(chunk)
            if self._max_bytes is not None and self._size > self._max_bytes:
                raise TooLarge(self._max_bytes)
            self._hash.update(chunk)
            yield chunk

    def result(self) -> Digested:
        """Give the digest and size of everything that passed."""
        return Digested(Sha256(self._hash.hexdigest()), self._size)
