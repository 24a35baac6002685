"""Take the manifest out of a PNG again, byte for byte. Pure.

Signing a PNG inserts one `caBX` chunk and touches nothing else, so what remains without it is exactly
the file that the worker made. That lets anyone compare the signed picture with the unsigned digest in
JobCompleted, without believing the hub that the two belong together.

Source: PNG 3rd edition §5.3 (chunk layout), C2PA 2.2 §A.3.1 (caBX).
"""

from typing import Final

from provenance.digests import Sha256, digest_bytes

_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
_MANIFEST_CHUNK: Final = b"caBX"


def unsigned_digest(data: bytes) -> Sha256 | None:
    """Name the bytes of a PNG without its manifest chunks; None when this is no well-formed PNG."""
    kept = _without_manifest(data)
    return None if kept is None else digest_bytes(kept)


def _without_manifest(data: bytes) -> bytes | None:
    if not data.startswith(_SIGNATURE):
        return None
    kept = [_SIGNATURE]
    at = len(_SIGNATURE)
    while at < len(data):
        # Length, type, content, CRC. What follows IEND is kept as it is: it counts too.
        end = at + 12 + int.from_bytes(data[at : at + 4])
        if end > len(data):
            return None
        kind = data[at + 4 : at + 8]
        if kind != _MANIFEST_CHUNK:
            kept.append(data[at:end])
        at = end
        if kind == b"IEND":
            kept.append(data[at:])
            break
    return b"".join(kept)
