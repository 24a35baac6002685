"""The house's certificates are made once, whole, and are never replaced behind anybody's back."""

import datetime as dt
import multiprocessing
import os
import shutil
import signal
import stat
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from provenance import authority as authority_module
from provenance.authority import (
    C2PA_SIGNING,
    DOCUMENT_SIGNING,
    RANKS,
    Authority,
    Rank,
    load_authority,
    make_authority,
    renew_leaf,
)
from provenance.errors import AuthorityBroken, AuthorityMissing
from receipts import durable
from tests.provenance.conftest import ORGANISATION


@pytest.fixture
def folder(authority: Authority, tmp_path: Path) -> Path:
    """A copy of the house's authority, to be broken."""
    shutil.copytree(authority.folder, tmp_path / "keys" / "c2pa")
    return tmp_path / "keys" / "c2pa"


def certificate(folder: Path, rank: Rank) -> x509.Certificate:
    return x509.load_pem_x509_certificate((folder / f"{rank}.pem").read_bytes())


def test_the_leaf_has_what_three_verifiers_ask_for(authority: Authority) -> None:
    leaf = certificate(authority.folder, "leaf")
    extensions = leaf.extensions
    usage = extensions.get_extension_for_class(x509.KeyUsage)
    assert usage.critical
    assert usage.value.digital_signature
    assert not usage.value.key_cert_sign
    purposes = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert set(purposes) == {C2PA_SIGNING, DOCUMENT_SIGNING}
    constraints = extensions.get_extension_for_class(x509.BasicConstraints)
    assert constraints.critical
    assert not constraints.value.ca
    intermediate = certificate(authority.folder, "intermediate")
    subject_key = intermediate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    issuer_key = extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    assert issuer_key.key_identifier == subject_key.digest
    assert leaf.version == x509.Version.v3
    assert f"O={ORGANISATION}" in leaf.subject.rfc4514_string()
    key = leaf.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert isinstance(key.curve, ec.SECP256R1)


def test_the_intermediate_may_certify_leaves_and_nothing_else(authority: Authority) -> None:
    constraints = certificate(authority.folder, "intermediate").extensions.get_extension_for_class(
        x509.BasicConstraints
    )
    assert constraints.critical
    assert (constraints.value.ca, constraints.value.path_length) == (True, 0)


def test_no_certificate_outlives_the_one_above_it(authority: Authority) -> None:
    root, intermediate, leaf = (certificate(authority.folder, rank) for rank in RANKS)
    assert leaf.not_valid_after_utc < intermediate.not_valid_after_utc < root.not_valid_after_utc
    assert authority.leaf_not_after == leaf.not_valid_after_utc


def test_the_chain_is_leaf_then_intermediate_without_the_root(authority: Authority) -> None:
    chain = x509.load_pem_x509_certificates(authority.chain_pem.encode())
    assert chain == [certificate(authority.folder, "leaf"), certificate(authority.folder, "intermediate")]
    assert x509.load_pem_x509_certificate(authority.root_pem.encode()) == certificate(authority.folder, "root")


def test_keys_are_their_owners_alone(authority: Authority) -> None:
    for rank in RANKS:
        assert stat.S_IMODE((authority.folder / f"{rank}.key").stat().st_mode) == 0o600
    assert stat.S_IMODE(authority.folder.stat().st_mode) == 0o700


def test_a_second_start_makes_nothing_new(folder: Path) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    make_authority(folder, "another name")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_signing_needs_neither_the_roots_key_nor_the_intermediates(folder: Path) -> None:
    (folder / "root.key").unlink()
    (folder / "intermediate.key").unlink()
    assert make_authority(folder, ORGANISATION) == load_authority(folder)


def test_an_authority_that_was_never_made_is_missing(tmp_path: Path) -> None:
    with pytest.raises(AuthorityMissing):
        load_authority(tmp_path / "c2pa")
    (tmp_path / "c2pa").mkdir()
    with pytest.raises(AuthorityMissing):
        load_authority(tmp_path / "c2pa")
    make_authority(tmp_path / "c2pa", ORGANISATION)  # an empty folder, as a volume gives, is filled
    load_authority(tmp_path / "c2pa")


@pytest.mark.parametrize("lost", ["leaf.pem", "leaf.key"])
def test_a_half_made_leaf_is_made_anew_under_the_same_root(folder: Path, authority: Authority, lost: str) -> None:
    (folder / lost).unlink()
    with pytest.raises(AuthorityBroken, match=lost):
        load_authority(folder)
    remade = make_authority(folder, "ignored")
    assert remade.root_pem == authority.root_pem
    assert remade.leaf_sha256 != authority.leaf_sha256
    assert f"O={ORGANISATION}" in certificate(folder, "leaf").subject.rfc4514_string()


def test_a_crash_between_the_new_leafs_two_files_is_noticed_and_made_good(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = durable.write_durably

    def crash_at_the_certificate(path: Path, data: bytes, *, mode: int) -> None:
        if path.name == "leaf.pem":
            raise KeyboardInterrupt
        real(path, data, mode=mode)

    with monkeypatch.context() as crashing:
        crashing.setattr(authority_module, "write_durably", crash_at_the_certificate)
        with pytest.raises(KeyboardInterrupt):
            renew_leaf(folder)
    with pytest.raises(AuthorityBroken, match=r"leaf\.key is not the key of leaf\.pem"):
        load_authority(folder)
    make_authority(folder, ORGANISATION)
    load_authority(folder)


def test_a_leaf_that_has_ended_is_refused_and_renewed(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as brief:
        brief.setitem(authority_module.LIFETIME_DAYS, "leaf", 0)
        with pytest.raises(AuthorityBroken, match="ended"):
            make_authority(tmp_path / "c2pa", ORGANISATION)
    renewed = make_authority(tmp_path / "c2pa", ORGANISATION)
    assert renewed.leaf_not_after > dt.datetime.now(dt.UTC)


@pytest.mark.parametrize("lost", ["root.pem", "intermediate.pem"])
def test_nothing_above_the_leaf_is_ever_made_anew(folder: Path, lost: str) -> None:
    (folder / lost).unlink()
    with pytest.raises(AuthorityBroken, match=lost):
        make_authority(folder, ORGANISATION)
    assert not (folder / lost).exists()


def test_a_lost_leaf_without_the_intermediates_key_is_said(folder: Path) -> None:
    (folder / "leaf.pem").unlink()
    (folder / "intermediate.key").unlink()
    with pytest.raises(AuthorityBroken, match=r"intermediate\.key is missing"):
        make_authority(folder, ORGANISATION)


@pytest.mark.parametrize("rank", RANKS)
def test_a_key_that_others_may_read_is_refused_and_not_replaced(folder: Path, rank: Rank) -> None:
    (folder / f"{rank}.key").chmod(0o640)
    before = (folder / f"{rank}.key").read_bytes()
    with pytest.raises(AuthorityBroken, match="open to others"):
        make_authority(folder, ORGANISATION)
    with pytest.raises(AuthorityBroken, match="open to others"):
        load_authority(folder)
    assert (folder / f"{rank}.key").read_bytes() == before


@pytest.mark.parametrize("rank", ["root", "intermediate"])
def test_a_certificate_of_another_authority_with_the_same_name_is_refused(
    folder: Path, mallory: Authority, rank: str
) -> None:
    shutil.copy(mallory.folder / f"{rank}.pem", folder)
    with pytest.raises(AuthorityBroken, match="was not issued by"):
        load_authority(folder)


@pytest.mark.parametrize("name", ["root.pem", "leaf.pem", "leaf.key"])
def test_a_file_that_is_neither_certificate_nor_key_is_named(folder: Path, name: str) -> None:
    (folder / name).write_bytes(b"hello")
    with pytest.raises(AuthorityBroken, match=name):
        load_authority(folder)


def _make_and_die(folder: Path) -> None:
    """Be killed just before the last certificate is written."""
    real = durable.write_durably

    def die_late(path: Path, data: bytes, *, mode: int) -> None:
        if path.name == "leaf.pem":
            os.kill(os.getpid(), signal.SIGKILL)
        real(path, data, mode=mode)

    setattr(authority_module, "write_durably", die_late)  # noqa: B010, a function is exchanged on purpose
    make_authority(folder, ORGANISATION)


def test_a_first_start_that_is_killed_leaves_no_authority_and_its_keys_are_removed_later(tmp_path: Path) -> None:
    folder = tmp_path / "c2pa"
    killed = multiprocessing.get_context("fork").Process(target=_make_and_die, args=(folder,))
    killed.start()
    killed.join(30)
    assert killed.exitcode == -signal.SIGKILL
    assert not folder.exists()
    (left,) = tmp_path.iterdir()
    assert (left / "root.key").exists()
    make_authority(folder, ORGANISATION)
    assert left.exists()  # so young that it could be another start under way
    os.utime(left, (0, 0))
    make_authority(folder, ORGANISATION)
    assert [path.name for path in tmp_path.iterdir()] == ["c2pa"]


def _make(folder: Path, start: Any, results: Any) -> None:
    start.wait()
    results.put(make_authority(folder, ORGANISATION).leaf_sha256)


def test_starts_at_the_same_moment_agree_on_one_authority(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    start, results = context.Event(), context.Queue()
    starters = [context.Process(target=_make, args=(tmp_path / "c2pa", start, results)) for _ in range(4)]
    for starter in starters:
        starter.start()
    start.set()
    fingerprints = {results.get(timeout=60) for _ in starters}
    for starter in starters:
        starter.join(60)
    assert len(fingerprints) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["c2pa"]
