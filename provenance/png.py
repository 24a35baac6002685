"""Find the manifest in a PNG, and take it out again byte for byte. Pure.

Signing a PNG inserts one `caBX` chunk and touches nothing else, so what remains without it is exactly
the file that the worker made. That lets anyone compare the signed picture with the unsigned digest in
JobCompleted, without believing the hub that the two belong together.

Source: PNG 3rd edition §5.3 (chunk layout), C2PA 2.2 §A.3.1 (caBX).
"""

from collections.abc import Iterator
from typing import Final

from provenance.digests import Sha256, digest_bytes

_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
_MANIFEST: Final = b"caBX"


class _Malformed(Exception):
    """The chunks don't add up to a PNG."""


def unsigned_digest(data: bytes) -> Sha256 | None:
    """Name the bytes of a PNG without its manifest chunks; None when this is no well-formed PNG."""
    try:
        kept = [data[at:end] for kind, at, end in _chunks(data) if kind != _MANIFEST]
    except _Malformed:
        return None
    return digest_bytes(_SIGNATURE + b"".join(kept))


def carries_manifest(data: bytes) -> bool | None:
    """Say whether a manifest chunk is in it; None when this is no well-formed PNG."""
    try:
        return any(kind == _MANIFEST for kind in [kind for kind, _, _ in _chunks(data)])
    except _Malformed:
        return None


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield each chunk's type, start and end, and what follows IEND as one more: it counts too."""
    if not data.startswith(_SIGNATURE):
        raise _Malformed
    at, kind = len(_SIGNATURE), b""
    while kind != b"IEND":
        end = at + 12 + int.from_bytes(data[at : at + 4])  # length, type, content, CRC
        if end > len(data):
            raise _Malformed
        kind = data[at + 4 : at + 8]
        yield kind, at, end
        at = end
    yield b"", at, len(data)
