"""Make and load the house's certificates: a root, an intermediate, and the leaf that signs credentials.

    <folder>/root.pem  intermediate.pem  leaf.pem     certificates, public
    <folder>/root.key  intermediate.key  leaf.key     PKCS#8, mode 0600

Signing needs leaf.key and the three certificates, nothing else. In production root.key lives off the
server (move the file away), and so may intermediate.key until a leaf is due.

The folder appears by one rename, so a crash while it is made leaves none, only a dot folder that a
later start removes. A leaf that is missing, has ended or whose two files don't belong together is made
anew under the intermediate that is there; what an older leaf signed stays good, it carries its chain.
Anything above the leaf is never made anew, because every credential ever signed hangs from the root.

Source: C2PA 2.2 §14.5 (certificate profile), RFC 5280 §4.2.
"""

import datetime as dt
import secrets
import shutil
import stat
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID, ObjectIdentifier

from provenance.errors import AuthorityBroken, AuthorityMissing
from receipts.durable import fsync_folder, write_durably

Rank = Literal["root", "intermediate", "leaf"]

RANKS: Final[tuple[Rank, ...]] = ("root", "intermediate", "leaf")
C2PA_SIGNING: Final = ObjectIdentifier("1.3.6.1.4.1.62558.2.1")
DOCUMENT_SIGNING: Final = ObjectIdentifier("1.3.6.1.5.5.7.3.36")
# Without a time-stamping authority a credential is trusted only while its leaf is valid, so the leaf
# lives long; it is replaced by a new file, and what the old one signed stays good until it ends.
LIFETIME_DAYS: Final[dict[Rank, int]] = {"root": 7305, "intermediate": 5478, "leaf": 3652}
_CLOCK_SKEW: Final = dt.timedelta(hours=1)
_MAKING: Final = ".c2pa-making-"


@dataclass(frozen=True)
class Authority:
    """What signing and checking need of the house's certificates. Holds paths of keys, never a key."""

    folder: Path
    root_pem: str
    chain_pem: str  # leaf, then intermediate: the order C2PA wants
    leaf_key: Path
    leaf_sha256: str  # of the leaf's DER: the fingerprint that rows and the trust file name
    leaf_not_after: dt.datetime


@dataclass(frozen=True)
class _Pair:
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


def make_authority(folder: Path, organisation: str) -> Authority:
    """Make the certificates unless they are there, complete a missing leaf, and load them.

    Raises: AuthorityBroken, when a root or an intermediate would have to be replaced.
    """
    folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    _remove_half_made(folder)
    if not folder.exists() or not any(folder.iterdir()):
        _make_whole(folder, organisation)
    elif not _leaf_can_sign(folder):
        renew_leaf(folder)
    return load_authority(folder)


def load_authority(folder: Path) -> Authority:
    """Load what signing needs and check that it fits together, without needing the root's key.

    Raises: AuthorityMissing, AuthorityBroken.
    """
    if not folder.is_dir() or not any(folder.iterdir()):
        raise AuthorityMissing(folder)
    _refuse_open_keys(folder)
    root, intermediate, leaf = (_certificate(folder, rank) for rank in RANKS)
    for issued, issuer in ((root, root), (intermediate, root), (leaf, intermediate)):
        _check_issued(folder, issued, issuer)
    if leaf.public_key() != _key(folder, "leaf").public_key():
        raise AuthorityBroken(folder, "leaf.key is not the key of leaf.pem")
    if leaf.not_valid_after_utc <= dt.datetime.now(dt.UTC):
        raise AuthorityBroken(folder, f"leaf.pem ended at {leaf.not_valid_after_utc:%Y-%m-%d}; renew the leaf")
    return Authority(
        folder=folder,
        root_pem=_pem(root),
        chain_pem=_pem(leaf) + _pem(intermediate),
        leaf_key=folder / "leaf.key",
        leaf_sha256=leaf.fingerprint(hashes.SHA256()).hex(),
        leaf_not_after=leaf.not_valid_after_utc,
    )


def renew_leaf(folder: Path) -> None:
    """Make a new leaf under the intermediate that is there; needs intermediate.key for this moment.

    Raises: AuthorityBroken, when the intermediate or its key is not there.
    """
    intermediate = _Pair(_certificate(folder, "intermediate"), _key(folder, "intermediate"))
    leaf = _issue("leaf", _organisation(intermediate.certificate), intermediate)
    # Key before certificate: a crash between them leaves two that don't fit, which the next start sees.
    _write_key(folder, "leaf", leaf.key)
    write_durably(folder / "leaf.pem", _pem(leaf.certificate).encode(), mode=0o644)


def _make_whole(folder: Path, organisation: str) -> None:
    root = _issue("root", organisation, None)
    intermediate = _issue("intermediate", organisation, root)
    leaf = _issue("leaf", organisation, intermediate)
    draft = folder.with_name(_MAKING + secrets.token_hex(8))
    draft.mkdir(mode=0o700)
    try:
        for rank, pair in zip(RANKS, (root, intermediate, leaf), strict=True):
            _write_key(draft, rank, pair.key)
            write_durably(draft / f"{rank}.pem", _pem(pair.certificate).encode(), mode=0o644)
        try:
            draft.rename(folder)  # takes an empty folder's place, never a filled one's
        except OSError:
            if not (folder / "root.pem").exists():
                raise
            # Another process was quicker: its authority is the house's, ours never signed anything.
            return
        fsync_folder(folder.parent)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _remove_half_made(folder: Path) -> None:
    """Remove what a crashed start left: private keys that certify nothing should not lie about."""
    before = time.time() - 60  # younger ones may belong to a start that is under way
    for draft in folder.parent.glob(f"{_MAKING}*"):
        if draft.stat().st_mtime < before:
            shutil.rmtree(draft, ignore_errors=True)


def _issue(rank: Rank, organisation: str, issuer: _Pair | None) -> _Pair:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _name(organisation, rank)
    issuer_key = issuer.key if issuer else key
    now = dt.datetime.now(dt.UTC)
    is_authority = rank != "leaf"
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(now + dt.timedelta(days=LIFETIME_DAYS[rank]))
        .add_extension(_basic_constraints(rank), critical=True)
        .add_extension(_key_usage(is_authority=is_authority), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
    )
    if not is_authority:
        # Verifiers ask for one or the other, so the leaf carries both.
        builder = builder.add_extension(x509.ExtendedKeyUsage([C2PA_SIGNING, DOCUMENT_SIGNING]), critical=False)
    return _Pair(builder.sign(issuer_key, hashes.SHA256()), key)


def _basic_constraints(rank: Rank) -> x509.BasicConstraints:
    # pathlen 0: the intermediate may certify leaves, never another authority.
    return x509.BasicConstraints(ca=rank != "leaf", path_length=0 if rank == "intermediate" else None)


def _key_usage(*, is_authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not is_authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=is_authority,
        crl_sign=is_authority,
        encipher_only=False,
        decipher_only=False,
    )


def _name(organisation: str, rank: Rank) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, organisation),
            x509.NameAttribute(NameOID.COMMON_NAME, f"Tallystick C2PA {rank}"),
        ]
    )


def _organisation(certificate: x509.Certificate) -> str:
    return str(certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)[0].value)


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _write_key(folder: Path, rank: Rank, key: ec.EllipticCurvePrivateKey) -> None:
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    write_durably(folder / f"{rank}.key", pem, mode=0o600)


def _certificate(folder: Path, rank: Rank) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate((folder / f"{rank}.pem").read_bytes())
    except FileNotFoundError:
        raise AuthorityBroken(folder, f"{rank}.pem is missing") from None
    except ValueError:
        raise AuthorityBroken(folder, f"{rank}.pem is no certificate") from None


def _key(folder: Path, rank: Rank) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(read_secret(folder / f"{rank}.key"), password=None)
    except FileNotFoundError:
        raise AuthorityBroken(folder, f"{rank}.key is missing") from None
    except (ValueError, TypeError):
        raise AuthorityBroken(folder, f"{rank}.key is no private key") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise AuthorityBroken(folder, f"{rank}.key is not a P-256 key")
    return key


def read_secret(path: Path) -> bytes:
    """Read a key file. Raises: AuthorityBroken, when group or others may read it too; FileNotFoundError."""
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        raise AuthorityBroken(path.parent, f"{path.name} is open to others (mode {mode:04o}); it must be 0600")
    return path.read_bytes()


def _check_issued(folder: Path, issued: x509.Certificate, issuer: x509.Certificate) -> None:
    try:
        issued.verify_directly_issued_by(issuer)
    except Exception as error:  # InvalidSignature, ValueError and TypeError share no narrower root
        rank = issued.subject.rfc4514_string()
        raise AuthorityBroken(folder, f"{rank} was not issued by the certificate above it") from error


def _refuse_open_keys(folder: Path) -> None:
    """Refuse a folder in which others may read any key, also one that signing doesn't need just now."""
    for path in sorted(folder.glob("*.key")):
        read_secret(path)


def _leaf_can_sign(folder: Path) -> bool:
    """Say whether leaf.pem and leaf.key are there, belong together and haven't ended."""
    _refuse_open_keys(folder)  # an open key is for a person to look at, not to be replaced in silence
    try:
        leaf = _certificate(folder, "leaf")
        fits = leaf.public_key() == _key(folder, "leaf").public_key()
        return fits and leaf.not_valid_after_utc > dt.datetime.now(dt.UTC)
    except AuthorityBroken:
        return False
