"""Give a file its credential: build the manifest, sign, read back, keep. No Django models here.

`prepare()` is the slow half and belongs into a worker, outside any transaction (a remote signer may
take seconds); `credentials.keep()` is the quick half and belongs into the caller's transaction, beside
the CredentialIssued receipt.

    1. the source is what the receipts say it is: its digest, its type, no credential in it yet
    2. sign into a draft file
    3. read the draft back: trusted under our own root, or it never leaves this module
    4. the signed file, and the manifest where it lies beside it, go into the store

A crash anywhere leaves drafts, which the store sweeps, or a signed blob that no row names. The output
of signing is never the same twice, so it is the row that decides which file is the signed one.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from provenance import mime as media
from provenance import png
from provenance.c2pa_settings import library_settings
from provenance.digests import Sha256, digest_bytes, digest_file
from provenance.errors import NotSignable, SigningFailed
from provenance.manifest import CREATED_LABELS, CredentialFacts, build
from provenance.signers.base import CredentialSigner
from provenance.store import Store, Stored
from provenance.verify import CredentialReading, NotReadable, read_credential

ALREADY_SIGNED: Final = "the file carries a credential already"


@dataclass(frozen=True, kw_only=True)
class SignedFile:
    """A signed file on disk. Where the format can't embed, `path` is the source itself, untouched."""

    path: Path
    sha256: Sha256
    size: int
    mime: str
    manifest_label: str
    embedded: bool
    manifest_path: Path | None  # the detached .c2pa, else None


@dataclass(frozen=True, kw_only=True)
class PreparedCredential:
    """A credential whose bytes are safe in the store and which no row names yet."""

    facts: CredentialFacts
    mime: str
    signed: Stored
    manifest: Stored | None
    manifest_label: str
    embedded: bool
    certificate_sha256: str


def prepare(
    *, store: Store, signer: CredentialSigner, mime: str, facts: CredentialFacts, max_bytes: int, version: str
) -> PreparedCredential:
    """Sign the blob that `facts.unsigned_sha256` names and put the result into the store.

    Raises: BlobMissing, NotSignable, SigningFailed, StoreFull.
    """
    with store.open_blob(facts.unsigned_sha256), store.draft_folder() as drafts:
        signed = sign_file(
            source=store.path_of(facts.unsigned_sha256),
            mime=mime,
            facts=facts,
            signer=signer,
            destination_dir=drafts,
            max_bytes=max_bytes,
            version=version,
        )
        return PreparedCredential(
            facts=facts,
            mime=signed.mime,
            signed=store.put(signed.path) if signed.embedded else Stored(signed.sha256, signed.size),
            manifest=store.put(signed.manifest_path) if signed.manifest_path else None,
            manifest_label=signed.manifest_label,
            embedded=signed.embedded,
            certificate_sha256=signer.certificate_sha256,
        )


def sign_file(
    *,
    source: Path,
    mime: str,
    facts: CredentialFacts,
    signer: CredentialSigner,
    destination_dir: Path,
    max_bytes: int,
    version: str,
) -> SignedFile:
    """Sign one file; where its format has no place for a manifest, make a detached one.

    Signing holds about three times the file in memory, hence `max_bytes`.
    Raises: NotSignable, SigningFailed.
    """
    actual_mime = _check_source(source, plain_mime(source, mime), facts, signer, max_bytes)  # 1
    definition = build(facts, mime=actual_mime, version=version)
    if media.embeds(actual_mime):
        return _embed(source, actual_mime, definition, signer, destination_dir)
    return _detach(source, actual_mime, definition, signer, destination_dir)


def plain_mime(source: Path, declared: str) -> str:
    """Say what a file is: by its bytes where they tell. Raises: NotSignable, where they contradict `declared`."""
    with source.open("rb") as stream:
        found = media.sniff(stream.read(media.SNIFF_BYTES))
    wanted = media.plain(declared)
    if found is not None and found != wanted:
        raise NotSignable(f"declared as {wanted}, but the bytes are {found}")
    if found is None and wanted in media.WITH_MAGIC:
        raise NotSignable(f"declared as {wanted}, but the bytes are not")
    return wanted


def _check_source(source: Path, mime: str, facts: CredentialFacts, signer: CredentialSigner, max_bytes: int) -> str:
    size = source.stat().st_size
    if size > max_bytes:
        raise NotSignable(f"{size} bytes, at most {max_bytes} are signed")
    found = digest_file(source)
    if found.size == 0:
        raise NotSignable("the file is empty")
    if found.sha256 != facts.unsigned_sha256:
        raise NotSignable(f"the file's digest is {found.sha256}, the facts name {facts.unsigned_sha256}")
    if media.embeds(mime):
        _refuse_credential(source, mime, signer, max_bytes)
    return mime


def _refuse_credential(source: Path, mime: str, signer: CredentialSigner, max_bytes: int) -> None:
    """Refuse a file with a credential: signing over it without naming it as the parent drops its history in silence."""
    if mime == "image/png":
        # Most outputs are PNGs; their chunks tell without starting a process.
        carries = png.carries_manifest(source.read_bytes())
        reason = "the PNG is malformed" if carries is None else ALREADY_SIGNED if carries else None
    else:
        present = read_credential(source, mime, root_pem=signer.root_pem, max_bytes=max_bytes)
        absent = isinstance(present, NotReadable) and present.absent
        reason = None if absent else present.reason if isinstance(present, NotReadable) else ALREADY_SIGNED
    if reason:
        raise NotSignable(reason)


def _embed(
    source: Path, mime: str, definition: dict[str, object], signer: CredentialSigner, destination_dir: Path
) -> SignedFile:
    path = destination_dir / "signed"
    _sign(source, path, mime, definition, signer, embed=True)  # 2
    # The container grew by a manifest; the source's own limit was checked before.
    reading = _read_back(path, mime, signer, None)  # 3
    return SignedFile(
        path=path,
        sha256=reading.sha256,
        size=path.stat().st_size,
        mime=mime,
        manifest_label=reading.label,
        embedded=True,
        manifest_path=None,
    )


def _detach(
    source: Path, mime: str, definition: dict[str, object], signer: CredentialSigner, destination_dir: Path
) -> SignedFile:
    untouched = destination_dir / "untouched"  # the library writes a copy in any case; ours stays the source
    manifest = _sign(source, untouched, mime, definition, signer, embed=False)  # 2
    untouched.unlink()
    reading = _read_back(source, mime, signer, manifest)  # 3
    manifest_path = destination_dir / f"{digest_bytes(manifest)}.c2pa"
    manifest_path.write_bytes(manifest)
    return SignedFile(
        path=source,
        sha256=reading.sha256,
        size=source.stat().st_size,
        mime=mime,
        manifest_label=reading.label,
        embedded=False,
        manifest_path=manifest_path,
    )


def _sign(
    source: Path, destination: Path, mime: str, definition: dict[str, object], signer: CredentialSigner, *, embed: bool
) -> bytes:
    """Run the library once. Every handle is made here and closed here: none survives a fork, a builder signs once."""
    import c2pa

    settings = library_settings(signer.root_pem, CREATED_LABELS)
    try:
        with (
            c2pa.Context.from_dict(settings, signer.open()) as context,
            c2pa.Builder(json.dumps(definition), context) as builder,
            source.open("rb") as original,
            destination.open("w+b") as signed,
        ):
            if not embed:
                builder.set_no_embed()
            return bytes(builder.sign(mime, original, signed))
    except c2pa.C2paError as error:
        raise SigningFailed(" ".join(str(error).split())[:200]) from error


def _read_back(path: Path, mime: str, signer: CredentialSigner, manifest: bytes | None) -> CredentialReading:
    reading = read_credential(path, mime, root_pem=signer.root_pem, manifest=manifest, contained=False)
    if isinstance(reading, NotReadable):
        raise SigningFailed(f"what was signed can't be read back: {reading.reason}")
    if not reading.trusted:
        raise SigningFailed(f"what was signed is {reading.state}: {', '.join(reading.failures) or 'no reason given'}")
    return reading
