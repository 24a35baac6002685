"""Tell what a file is from its first bytes, and whether a credential fits inside it. Pure.

A declared type or a file name is only someone's word: what the bytes say goes first.
"""

from typing import Final

SNIFF_BYTES: Final = 64

_PREFIXES: Final[tuple[tuple[bytes, str], ...]] = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"II*\x00", "image/tiff"),
    (b"MM\x00*", "image/tiff"),
    (b"fLaC", "audio/flac"),
    (b"ID3", "audio/mpeg"),
    (b"\xff\xfb", "audio/mpeg"),
    (b"\xff\xf3", "audio/mpeg"),
    (b"\xff\xf2", "audio/mpeg"),
    (b"%PDF-", "application/pdf"),
    (b"PK\x03\x04", "application/zip"),
)
_RIFF_FORMS: Final = {b"WEBP": "image/webp", b"WAVE": "audio/wav", b"AVI ": "video/avi"}
_BMFF_BRANDS: Final = {
    b"avif": "image/avif",
    b"avis": "image/avif",
    b"heic": "image/heic",
    b"heix": "image/heic",
    b"mif1": "image/heic",
    b"qt  ": "video/quicktime",
    b"M4A ": "audio/mp4",
}
_SAME: Final = {
    "image/jpg": "image/jpeg",
    "image/x-webp": "image/webp",
    "image/heif": "image/heic",
    "audio/wave": "audio/wav",
    "audio/x-wav": "audio/wav",
    "audio/vnd.wave": "audio/wav",
    "audio/mp3": "audio/mpeg",
    "audio/x-flac": "audio/flac",
    "audio/m4a": "audio/mp4",
    "audio/x-m4a": "audio/mp4",
    "video/x-m4v": "video/mp4",
    "application/mp4": "video/mp4",
}
# Types whose files always show it: declared as one of these, the bytes have to agree.
WITH_MAGIC: Final = frozenset(mime for _, mime in _PREFIXES) | {
    *_RIFF_FORMS.values(),
    *_BMFF_BRANDS.values(),
    "video/mp4",
}
# Formats with a place for a manifest that their readers skip. Left out on purpose: zip and its office
# relatives, because a signed .pt no longer loads; they get a detached manifest like JSON and text.
EMBEDDING: Final = frozenset(
    {
        "image/png",
        "image/jpeg",
        "image/webp",
        "image/gif",
        "image/tiff",
        "image/svg+xml",
        "image/avif",
        "image/heic",
        "video/mp4",
        "video/quicktime",
        "audio/wav",
        "audio/mpeg",
        "audio/flac",
        "audio/mp4",
        "application/pdf",
    }
)


def sniff(head: bytes) -> str | None:
    """Name the media type that the first SNIFF_BYTES show, or None where the format has no magic (text, JSON)."""
    for prefix, mime in _PREFIXES:
        if head.startswith(prefix):
            return mime
    if head.startswith(b"RIFF"):
        return _RIFF_FORMS.get(head[8:12])
    if head[4:8] == b"ftyp":
        return _BMFF_BRANDS.get(head[8:12], "video/mp4")
    return None


def plain(mime: str) -> str:
    """Reduce a declared type to one spelling: lower case, no parameters, no alias."""
    bare = mime.partition(";")[0].strip().lower()
    return _SAME.get(bare, bare)


def embeds(mime: str) -> bool:
    """Say whether a credential goes into the file itself; otherwise it lies beside it as `.c2pa`."""
    return plain(mime) in EMBEDDING
