"""A file gets its credential only when it is what the facts say, and only when it reads back as trusted."""

import io
import json
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from provenance.authority import Authority
from provenance.digests import digest_bytes
from provenance.errors import AuthorityBroken, BlobMissing, NotSignable, SigningFailed
from provenance.manifest import job_assertion
from provenance.sign import PreparedCredential, prepare, sign_file
from provenance.signers.base import CredentialSigner
from provenance.signers.file import FileSigner
from provenance.store import INCOMING, Store
from provenance.verify import CredentialReading, read_credential
from tests.provenance.conftest import FACTS, MAX_BYTES, Sign, drawing, tone


def read(data: bytes, mime: str | None, authority: Authority, manifest: bytes | None = None) -> CredentialReading:
    reading = read_credential(data, mime, root_pem=authority.root_pem, manifest=manifest, contained=False)
    assert isinstance(reading, CredentialReading), reading
    return reading


def test_a_signed_picture_reads_back_as_trusted_with_exactly_the_facts(sign: Sign, authority: Authority) -> None:
    picture = drawing(16)
    signed, prepared = sign(picture)
    reading = read(signed, "image/png", authority)
    assert (reading.trusted, reading.state, reading.failures) == (True, "Trusted", ())
    assert reading.assertion == job_assertion(prepared.facts)
    assert reading.issuer == "Ada and Bo's house"
    assert reading.title == "text-to-image job_ada"
    assert reading.embedded
    assert (reading.sha256, reading.label) == (prepared.signed.sha256, prepared.manifest_label)
    assert prepared.certificate_sha256 == authority.leaf_sha256
    assert [(item.title, item.description) for item in reading.ingredients] == [
        ("prompt", "salted digest c2FsdGVk"),
        ("tiny-shapes", f"digest {FACTS.model_digest}"),
    ]


def test_a_signed_picture_is_the_workers_picture_and_a_manifest_nothing_else(sign: Sign, authority: Authority) -> None:
    picture = drawing(16)
    signed, _ = sign(picture)
    assert read(signed, None, authority).unsigned_sha256 == digest_bytes(picture)
    assert len(signed) - len(picture) < 8 * 1024  # no thumbnail


def test_everything_we_say_is_attested_and_not_merely_gathered(sign: Sign, authority: Authority) -> None:
    import c2pa

    from provenance.c2pa_settings import library_settings

    signed, _ = sign(drawing(16))
    with (
        c2pa.Context.from_dict(library_settings(authority.root_pem)) as context,
        c2pa.Reader("image/png", io.BytesIO(signed), context=context) as reader,
    ):
        store = json.loads(reader.detailed_json())
    claim = store["manifests"][store["active_manifest"]]["claim"]
    assert claim.get("gathered_assertions", []) == []
    assert {item["url"].rpartition("/")[2] for item in claim["created_assertions"]} == {
        "c2pa.actions.v2",
        "c2pa.hash.data",
        "c2pa.ingredient.v3",
        "c2pa.ingredient.v3__1",
        "cawg.training-mining",
        "org.tallystick.job",
    }


def test_a_sound_file_holds_its_credential_too(sign: Sign, authority: Authority) -> None:
    signed, prepared = sign(tone(), "audio/x-wav")
    assert prepared.mime == "audio/wav"
    assert read(signed, None, authority).trusted


@pytest.mark.parametrize(
    ("data", "mime"),
    [
        (b'{"answer":42}', "application/json"),
        (b"a reply", "text/plain; charset=utf-8"),
        (b"\x08\x00\x00\x00\x00\x00\x00\x00{}      ", "application/octet-stream"),
        (b"PK\x03\x04 weights", "application/zip"),
    ],
)
def test_what_cannot_hold_a_credential_stays_untouched_and_gets_one_beside_it(
    sign: Sign, authority: Authority, manifest_of: Callable[[PreparedCredential], bytes], data: bytes, mime: str
) -> None:
    untouched, prepared = sign(data, mime)
    assert untouched == data
    assert not prepared.embedded
    reading = read(data, mime, authority, manifest_of(prepared))
    assert reading.trusted
    assert not reading.embedded
    assert reading.unsigned_sha256 == reading.sha256 == digest_bytes(data)
    changed = read(data + b" ", mime, authority, manifest_of(prepared))
    assert not changed.trusted
    assert "assertion.dataHash.mismatch" in changed.failures


def test_signing_twice_gives_two_files_that_both_hold(sign: Sign, authority: Authority) -> None:
    first, _ = sign(drawing(16))
    second, _ = sign(drawing(16))
    assert first != second
    assert read(first, None, authority).trusted
    assert read(second, None, authority).trusted


def test_signing_leaves_no_drafts(sign: Sign, store: Store) -> None:
    sign(drawing(16))
    sign(b"text", "text/plain")
    assert list((store.root / INCOMING).iterdir()) == []


def put_and_sign(store: Store, signer: CredentialSigner, data: bytes, mime: str, **options: Any) -> PreparedCredential:
    facts = replace(FACTS, unsigned_sha256=store.put(io.BytesIO(data)).sha256)
    return prepare(
        store=store, signer=signer, mime=mime, facts=facts, version="0.1.0", **{"max_bytes": MAX_BYTES, **options}
    )


@pytest.mark.parametrize(
    ("data", "mime", "rule"),
    [
        (drawing(4), "image/jpeg", "declared as image/jpeg, but the bytes are image/png"),
        (drawing(4), "text/plain", "the bytes are image/png"),
        (b"no picture", "image/png", "declared as image/png, but the bytes are not"),
        (b"", "text/plain", "the file is empty"),
        (drawing(4)[:40], "image/png", "the PNG is malformed"),
        (tone()[:20], "audio/wav", "RIFF"),
    ],
)
def test_a_file_that_is_not_what_it_is_called_is_not_signed(
    store: Store, signer: CredentialSigner, data: bytes, mime: str, rule: str
) -> None:
    with pytest.raises(NotSignable, match=rule):
        put_and_sign(store, signer, data, mime)


def test_a_file_above_the_limit_is_not_signed(store: Store, signer: CredentialSigner) -> None:
    picture = drawing(16)
    with pytest.raises(NotSignable, match=f"at most {len(picture) - 1} are signed"):
        put_and_sign(store, signer, picture, "image/png", max_bytes=len(picture) - 1)
    assert put_and_sign(store, signer, picture, "image/png", max_bytes=len(picture)).embedded


def test_a_file_that_was_exchanged_is_not_signed(tmp_path: Path, signer: CredentialSigner) -> None:
    (tmp_path / "out.png").write_bytes(drawing(16, seed=2))
    facts = replace(FACTS, unsigned_sha256=digest_bytes(drawing(16, seed=1)))
    with pytest.raises(NotSignable, match=facts.unsigned_sha256):
        sign_file(
            source=tmp_path / "out.png",
            mime="image/png",
            facts=facts,
            signer=signer,
            destination_dir=tmp_path,
            max_bytes=MAX_BYTES,
            version="0.1.0",
        )


@pytest.mark.parametrize(("data", "mime"), [(drawing(16), "image/png"), (tone(), "audio/wav")])
def test_a_signed_file_is_not_signed_over_because_its_history_would_be_lost(
    sign: Sign, store: Store, signer: CredentialSigner, data: bytes, mime: str
) -> None:
    signed, _ = sign(data, mime)
    with pytest.raises(NotSignable, match="carries a credential already"):
        put_and_sign(store, signer, signed, mime)


def test_an_output_that_is_not_in_the_store_is_missing(store: Store, signer: CredentialSigner) -> None:
    with pytest.raises(BlobMissing):
        prepare(store=store, signer=signer, mime="image/png", facts=FACTS, max_bytes=MAX_BYTES, version="0.1.0")


class DeviceSigner:
    """A key behind a call, as a KMS or a PKCS#11 token is: it keeps the promises of signers/base.py."""

    def __init__(self, authority: Authority, key_pem: bytes) -> None:
        key = serialization.load_pem_private_key(key_pem, password=None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        self._key = key
        self.chain_pem = authority.chain_pem
        self.root_pem = authority.root_pem
        self.certificate_sha256 = authority.leaf_sha256

    def open(self) -> Any:
        import c2pa

        return c2pa.Signer.from_callback(self._sign, c2pa.C2paSigningAlg.ES256, self.chain_pem, None)

    def _sign(self, data: bytes) -> bytes:
        r, s = decode_dss_signature(self._key.sign(data, ec.ECDSA(hashes.SHA256())))
        return r.to_bytes(32) + s.to_bytes(32)


def test_a_key_behind_a_device_signs_as_well_as_a_file(sign: Sign, authority: Authority) -> None:
    device = DeviceSigner(authority, authority.leaf_key.read_bytes())
    signed, _ = sign(drawing(16), by=device)
    assert read(signed, None, authority).trusted


class DownSigner(DeviceSigner):
    """A device that doesn't answer."""

    def _sign(self, data: bytes) -> bytes:
        raise TimeoutError("no answer from the token")


def test_a_device_that_is_down_fails_the_signing_keeps_nothing_and_may_be_asked_again(
    sign: Sign, authority: Authority, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR, "c2pa"), pytest.raises(SigningFailed) as failed:
        sign(drawing(16), by=DownSigner(authority, authority.leaf_key.read_bytes()))
    assert failed.value.may_retry
    assert "no answer from the token" in caplog.text
    assert [path.name for path in store.root.glob("??/*")] == [digest_bytes(drawing(16))]


def test_a_key_that_is_not_the_certificates_never_leaves_a_signed_file(
    sign: Sign, authority: Authority, mallory: Authority, store: Store
) -> None:
    wrong = DeviceSigner(authority, mallory.leaf_key.read_bytes())
    with pytest.raises(SigningFailed):
        sign(drawing(16), by=wrong)
    assert [path.name for path in store.root.glob("??/*")] == [digest_bytes(drawing(16))]


class UnderAnotherRoot(FileSigner):
    """A house whose root file was exchanged."""

    def __init__(self, authority: Authority, root_pem: str) -> None:
        super().__init__(authority)
        self.root_pem = root_pem


def test_what_does_not_read_back_as_trusted_never_leaves_the_house(
    sign: Sign, authority: Authority, mallory: Authority
) -> None:
    with pytest.raises(SigningFailed, match=r"signingCredential\.untrusted"):
        sign(drawing(16), by=UnderAnotherRoot(authority, mallory.root_pem))


def test_a_key_file_that_others_may_read_signs_nothing(sign: Sign, mallory: Authority) -> None:
    signer = FileSigner(mallory)
    mallory.leaf_key.chmod(0o644)
    try:
        with pytest.raises(AuthorityBroken, match="open to others"):
            sign(drawing(16), by=signer)
    finally:
        mallory.leaf_key.chmod(0o600)


def test_a_simulated_picture_says_so_to_every_reader(sign: Sign, authority: Authority) -> None:
    signed, _ = sign(drawing(16), origin="simulated")
    reading = read(signed, None, authority)
    assert reading.trusted
    assert reading.title.startswith("SIMULATED")
    assert reading.assertion is not None
    assert reading.assertion["simulated"] is True
    assert reading.digital_source_type == "http://cv.iptc.org/newscodes/digitalsourcetype/algorithmicMedia"
