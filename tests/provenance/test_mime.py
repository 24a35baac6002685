"""What a file is, its bytes say; a declared type only fills in where they say nothing."""

import pytest

from provenance.mime import EMBEDDING, embeds, plain, sniff
from tests.provenance.conftest import drawing, tone


@pytest.mark.parametrize(
    ("head", "mime"),
    [
        (drawing(4), "image/png"),
        (tone(), "audio/wav"),
        (b"\xff\xd8\xff\xe0\x00\x10JFIF", "image/jpeg"),
        (b"RIFF\x24\x00\x00\x00WEBPVP8 ", "image/webp"),
        (b"RIFF\x24\x00\x00\x00AVI LIST", "video/avi"),
        (b"GIF89a", "image/gif"),
        (b"\x00\x00\x00\x20ftypisom", "video/mp4"),
        (b"\x00\x00\x00\x1cftypavif", "image/avif"),
        (b"\x00\x00\x00\x1cftypM4A ", "audio/mp4"),
        (b"\x00\x00\x00\x14ftypqt  ", "video/quicktime"),
        (b"fLaC\x00", "audio/flac"),
        (b"ID3\x04", "audio/mpeg"),
        (b"%PDF-1.7", "application/pdf"),
        (b"PK\x03\x04", "application/zip"),
        (b'{"a":1}', None),
        (b"RIFF\x24\x00\x00\x00what", None),
        (b"", None),
    ],
)
def test_the_first_bytes_tell_the_type(head: bytes, mime: str | None) -> None:
    assert sniff(head) == mime


def test_a_type_has_one_spelling() -> None:
    assert plain("Image/JPG") == "image/jpeg"
    assert plain("application/json; charset=utf-8") == "application/json"


@pytest.mark.parametrize("mime", ["application/json", "text/plain", "application/octet-stream", "application/zip"])
def test_what_would_no_longer_load_with_a_manifest_inside_gets_it_beside(mime: str) -> None:
    assert not embeds(mime)


def test_the_library_can_embed_in_every_type_we_say_it_can() -> None:
    import c2pa

    assert set(c2pa.Builder.get_supported_mime_types()) >= EMBEDDING
