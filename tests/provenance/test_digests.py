"""Bytes are named by their SHA-256, in one pass, and a name is only ever 64 lower-case hex digits."""

import hashlib
import io
from pathlib import Path

import pytest

from provenance.digests import CHUNK_BYTES, as_sha256, digest_bytes, digest_file, digest_stream
from provenance.errors import NotADigest, TooLarge

# NIST FIPS 180-2, appendix B.1.
ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_the_published_vector_comes_out_of_bytes_stream_and_file(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    assert digest_bytes(b"abc") == ABC
    assert digest_stream(io.BytesIO(b"abc")) == (ABC, 3)
    assert digest_file(tmp_path / "abc") == (ABC, 3)


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1])
def test_the_size_and_digest_are_right_around_a_chunk_border(size: int) -> None:
    data = bytes(size)
    assert digest_stream(io.BytesIO(data)) == (hashlib.sha256(data).hexdigest(), size)


def test_a_byte_more_than_the_limit_is_refused_and_the_limit_itself_is_not() -> None:
    assert digest_stream(io.BytesIO(b"abcd"), max_bytes=4).size == 4
    with pytest.raises(TooLarge) as refused:
        digest_stream(io.BytesIO(b"abcde"), max_bytes=4)
    assert refused.value.limit == 4


@pytest.mark.parametrize(
    "name",
    ["", ABC.upper(), ABC[:-1], ABC + "0", ABC + "\n", "../" + ABC[3:], "0x" + ABC[2:], "g" * 64, "٠" * 64, None, 7],
)
def test_what_is_no_digest_never_becomes_a_name(name: object) -> None:
    with pytest.raises(NotADigest):
        as_sha256(name)
