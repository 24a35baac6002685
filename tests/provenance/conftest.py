"""The cast's artifacts: small real pictures, a real authority, and Mallory's, which has the same names."""

import io
import os
import random
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from provenance.authority import Authority, make_authority
from provenance.digests import digest_bytes
from provenance.manifest import CredentialFacts
from provenance.sign import PreparedCredential, prepare
from provenance.signers.base import CredentialSigner
from provenance.signers.file import FileSigner
from provenance.store import Store

ORGANISATION = "Ada and Bo's house"
MAX_BYTES = 16 * 1024 * 1024
FACTS = CredentialFacts(
    job_id="job_ada",
    job_nid="bafkreiajobsubmitted",
    completed_nid="bafkreiajobcompleted",
    unsigned_sha256=digest_bytes(b""),
    kind="text-to-image",
    model="tiny-shapes",
    model_digest="sha256:" + "7" * 64,
    provider="bo",
    origin="hosted",
    hub="tallystick.test/log",
    software="diffusers",
    software_version="0.42.1",
    prompt_digests={"prompt": "c2FsdGVk"},
    meter={"cpu_ms": {"value": 130, "basis": "measured", "source": "process clock"}},
)


def drawing(side: int, *, seed: int = 1) -> bytes:
    """Draw a PNG of noise, `side` × `side` pixels: the same bytes for the same seed."""
    noise = random.Random(seed)
    rows = b"".join(b"\0" + noise.randbytes(3 * side) for _ in range(side))
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        chunk(kind, data) for kind, data in ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    )


def chunk(kind: bytes, data: bytes) -> bytes:
    """Frame one PNG chunk."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def tone(samples: int = 400) -> bytes:
    """Make a WAV of noise, 8 bits, one channel."""
    body = random.Random(2).randbytes(samples)
    form = b"WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 1, 8000, 8000, 1, 8) + b"data" + struct.pack("<I", len(body))
    return b"RIFF" + struct.pack("<I", len(form) + len(body)) + form + body


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_authority(tmp_path_factory.mktemp("house") / "c2pa", ORGANISATION)


@pytest.fixture(scope="session")
def mallory(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """An authority that calls itself exactly as the house does."""
    return make_authority(tmp_path_factory.mktemp("mallory") / "c2pa", ORGANISATION)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def signer(authority: Authority) -> CredentialSigner:
    return FileSigner(authority)


Sign = Callable[..., tuple[bytes, PreparedCredential]]


@pytest.fixture
def sign(store: Store, signer: CredentialSigner) -> Sign:
    """Sign bytes and give the signed bytes with what was prepared; facts may be changed by name."""

    def _sign(
        data: bytes, mime: str = "image/png", *, by: CredentialSigner = signer, **changes: Any
    ) -> tuple[bytes, PreparedCredential]:
        stored = store.put(io.BytesIO(data))
        facts = replace(FACTS, **{"unsigned_sha256": stored.sha256, **changes})
        prepared = prepare(store=store, signer=by, mime=mime, facts=facts, max_bytes=MAX_BYTES, version="0.1.0")
        return store.path_of(prepared.signed.sha256).read_bytes(), prepared

    return _sign


@pytest.fixture
def manifest_of(store: Store) -> Callable[[PreparedCredential], bytes]:
    """Give the bytes of a detached manifest."""

    def _manifest_of(prepared: PreparedCredential) -> bytes:
        assert prepared.manifest is not None
        return store.path_of(prepared.manifest.sha256).read_bytes()

    return _manifest_of


@pytest.fixture(autouse=True)
def own_config_folder(tmp_path: Path) -> Iterator[None]:
    """Keep the second verifier's saved preferences out of the home folder of whoever runs the tests."""
    before = os.environ.get("XDG_CONFIG_HOME")
    os.environ["XDG_CONFIG_HOME"] = str(tmp_path / "config")
    yield
    if before is None:
        del os.environ["XDG_CONFIG_HOME"]
    else:
        os.environ["XDG_CONFIG_HOME"] = before
