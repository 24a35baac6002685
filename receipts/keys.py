"""Hold keys, sign with them, check signatures. Pure but for reading key files.

A key has one role. Private halves come from the environment or from a file of mode 0600, and are
never logged, stored in the database or put into a receipt.

Signing needs PyNaCl and coincurve; checking does not (`receipts.curves`).

Source: Ed25519 RFC 8032; secp256k1 with low s, EIP-2; keccak-256 (FIPS 202 draft).
"""

import hashlib
import os
import secrets
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal, NewType, Protocol, TypedDict

from receipts.canonical import NotCanonical, b64url, unb64url
from receipts.curves import NoSuchKey, ed25519_fits, keccak_256, recover_public
from receipts.durable import fsync_folder, write_durably

KeyId = NewType("KeyId", str)
Role = Literal["root", "log", "hub", "attester", "provider", "reporter", "client", "c2pa", "sender", "witness"]
ROLES: Final[tuple[Role, ...]] = (
    "root",
    "log",
    "hub",
    "attester",
    "provider",
    "reporter",
    "client",
    "c2pa",
    "sender",
    "witness",
)
_SECP256K1_ORDER: Final = 0xFFFFFFFF_FFFFFFFF_FFFFFFFF_FFFFFFFE_BAAEDCE6_AF48A03B_BFD25E8C_D0364141


class Signature(TypedDict):
    """Who signed and how; `sig` is base64url without padding."""

    alg: str
    key_id: str
    sig: str


class KeyUnusable(Exception):
    """The key for a role can't be used: missing, readable by others, or not a key."""


class SignatureBroken(ValueError):
    """A signature does not fit the text and key it is shown for."""


class TextSigner(Protocol):
    """Signs exact text. A KMS or PKCS#11 signer satisfies it as well as a file."""

    @property
    def key_id(self) -> KeyId: ...

    def sign(self, text: bytes) -> bytes: ...


class Ed25519Signer:
    """An Ed25519 key held in this process."""

    def __init__(self, seed: bytes) -> None:
        from nacl.signing import SigningKey

        self._key = SigningKey(seed)
        self.public: bytes = bytes(self._key.verify_key)
        self.key_id = KeyId(b64url(self.public))

    def sign(self, text: bytes) -> bytes:
        """Sign `text`: 64 bytes."""
        return bytes(self._key.sign(text).signature)

    def __repr__(self) -> str:
        return f"Ed25519Signer({self.key_id})"


class Secp256k1Signer:
    """A secp256k1 key held in this process; its id is its lower-case Ethereum address."""

    def __init__(self, secret: bytes) -> None:
        from coincurve import PrivateKey

        self._key = PrivateKey(secret)
        self.address = address_of(self._key.public_key.format(compressed=False))
        self.key_id = KeyId(self.address)

    @property
    def secret(self) -> bytes:
        """The raw 32 bytes, for the transaction signer alone."""
        return self._key.secret

    def sign_digest(self, digest: bytes) -> bytes:
        """Sign a 32-byte digest: r ‖ s ‖ v, 65 bytes, low s, v is 27 or 28."""
        raw = self._key.sign_recoverable(digest, hasher=None)
        return raw[:64] + bytes([raw[64] + 27])

    def __repr__(self) -> str:
        return f"Secp256k1Signer({self.address})"


def keccak256(data: bytes) -> bytes:
    """Hash with Ethereum's keccak-256 (not SHA3-256)."""
    return keccak_256(data)


def address_of(public: bytes) -> str:
    """Give the lower-case address of an uncompressed public key (65 bytes)."""
    return "0x" + keccak256(public[1:])[-20:].hex()


def recover_address(digest: bytes, signature: bytes) -> str:
    """Recover who signed a 32-byte digest.

    Raises: SignatureBroken, for a wrong length, a high s (its twin recovers the same key) or no such point.
    """
    if len(signature) != 65 or signature[64] not in (27, 28):
        raise SignatureBroken("an EIP-712 signature is r, s and v: 65 bytes, v is 27 or 28")
    if int.from_bytes(signature[32:64]) > _SECP256K1_ORDER // 2:
        raise SignatureBroken("the signature's s is high; only the low twin counts")
    try:
        return address_of(recover_public(digest, signature[:64], signature[64] - 27))
    except NoSuchKey as error:
        raise SignatureBroken(f"recovers to no key: {error}") from None


def sign_text(signer: TextSigner, text: str) -> Signature:
    """Sign the exact UTF-8 bytes of `text` with an Ed25519 key."""
    return {"alg": "Ed25519", "key_id": signer.key_id, "sig": b64url(signer.sign(text.encode()))}


def verify_text(text: str, signature: Mapping[str, Any], *, key_id: str | None = None) -> KeyId:
    """Check an Ed25519 signature over the exact bytes of `text` and say whose it is.

    Raises: SignatureBroken, also when `key_id` names another signer than the one expected.
    """
    if set(signature) != {"alg", "key_id", "sig"} or not all(isinstance(item, str) for item in signature.values()):
        raise SignatureBroken("a signature has alg, key_id and sig, each as text")
    if signature["alg"] != "Ed25519":
        raise SignatureBroken(f"alg is {ascii(signature['alg'])[:20]}, Ed25519 is due")
    if key_id is not None and signature["key_id"] != key_id:
        raise SignatureBroken(f"signed by {ascii(signature['key_id'])[1:51]}, {key_id} is due")
    try:
        public, given = unb64url(signature["key_id"], size=32), unb64url(signature["sig"], size=64)
        signed = text.encode()
    except NotCanonical as error:
        raise SignatureBroken(f"key_id or sig: {error.rule}") from None
    except UnicodeEncodeError:
        raise SignatureBroken("nobody signs half of a surrogate pair") from None
    if not ed25519_fits(public, signed, given):
        raise SignatureBroken(f"does not fit the text under key {signature['key_id'][:50]}")
    return KeyId(signature["key_id"])


def fingerprint(key_id: str) -> str:
    """Give the SHA-256 of an Ed25519 public key, in hex: what people compare."""
    return hashlib.sha256(unb64url(key_id, size=32)).hexdigest()


def make_key_file(path: Path, alg: Literal["ed25519", "secp256k1"]) -> None:
    """Make a key file of mode 0600 unless there is one: whole or not at all, also across a crash."""
    if path.exists():
        return
    secret = secrets.token_bytes(32)
    while alg == "secp256k1" and not 0 < int.from_bytes(secret) < _SECP256K1_ORDER:
        secret = secrets.token_bytes(32)
    line = f"ed25519:{b64url(secret)}\n" if alg == "ed25519" else f"secp256k1:0x{secret.hex()}\n"
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.write(handle, line.encode())
        os.fsync(handle)
    finally:
        os.close(handle)
    try:
        os.link(draft, path)  # unlike rename, refuses to replace a key that another process made meanwhile
    except FileExistsError:
        return
    finally:
        draft.unlink()
        # The name must be on disk before anything is signed: a log whose key vanished is over.
        fsync_folder(path.parent)


def load_signer(role: Role, keys_dir: Path | None = None) -> Ed25519Signer | Secp256k1Signer:
    """Load a role's key: TALLYSTICK_KEY_<ROLE>, else the file TALLYSTICK_KEY_<ROLE>_FILE, else <keys_dir>/<role>.key.

    Raises: KeyUnusable, naming the role and the place, never the secret.
    """
    name = f"TALLYSTICK_KEY_{role.upper()}"
    if text := os.environ.get(name):
        return parse_key(text, where=f"the environment's {name}")
    named = os.environ.get(f"{name}_FILE")
    if not named and keys_dir is None:
        raise KeyUnusable(f"no key for the role {role}: set {name} or {name}_FILE")
    path = Path(named) if named else Path(str(keys_dir)) / f"{role}.key"
    return read_key_file(path)


def key_path(role: Role, keys_dir: Path) -> Path | None:
    """Say which file a role's key is read from; None where the environment holds the key itself."""
    name = f"TALLYSTICK_KEY_{role.upper()}"
    if os.environ.get(name):
        return None
    return Path(os.environ.get(f"{name}_FILE") or keys_dir / f"{role}.key")


def staged_path(path: Path) -> Path:
    """Where the key that follows `path`'s lies until it does."""
    return path.with_name(f"{path.name}.next")


def stage_key_file(path: Path, new: Path) -> None:
    """Copy the key in `new` beside the key file that it will replace; the same key again changes nothing.

    Raises: KeyUnusable, when another key waits there already.
    """
    following = read_key_file(new)
    staged = staged_path(path)
    if staged.exists():
        if read_key_file(staged).key_id != following.key_id:
            raise KeyUnusable(f"{staged} holds another key, {read_key_file(staged).key_id}, that waits to follow")
        return
    write_durably(staged, new.read_bytes(), mode=0o600)


def settle_key_file(path: Path) -> None:
    """Put the staged key in the place of `path`'s, which is kept beside it. Repeating it after a crash goes on."""
    old = read_key_file(path)
    # The old key keeps a name until the new one has the place: at no moment is there no key.
    kept = path.with_name(f"{path.name}.{old.key_id[:16]}.old")
    if not kept.exists():
        os.link(path, kept)
        fsync_folder(path.parent)
    staged_path(path).replace(path)
    fsync_folder(path.parent)


def read_key_file(path: Path) -> Ed25519Signer | Secp256k1Signer:
    """Read one key file.

    Raises: KeyUnusable, when it is missing, open to group or others, or holds no key.
    """
    try:
        mode = path.stat().st_mode
        if stat.S_IMODE(mode) & 0o077:
            raise KeyUnusable(f"{path} is open to others (mode {stat.S_IMODE(mode):04o}); it must be 0600")
        return parse_key(path.read_text(), where=str(path))
    except OSError as error:
        raise KeyUnusable(f"{path} can't be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise KeyUnusable(f"{path} holds no key: it is not text") from None


def parse_key(text: str, *, where: str) -> Ed25519Signer | Secp256k1Signer:
    """Read `ed25519:<base64url seed>` or `secp256k1:0x<hex>`.

    Raises: KeyUnusable, naming `where`, never the secret.
    """
    alg, _, secret = text.strip().partition(":")
    reason = "it must read ed25519:<base64url> or secp256k1:0x<hex>"
    try:
        if alg == "ed25519":
            return Ed25519Signer(unb64url(secret, size=32))
        if alg == "secp256k1" and secret.startswith("0x") and len(secret) == 66:
            raw = bytes.fromhex(secret[2:])  # which passes over blanks: the length is checked again
            if len(raw) == 32:
                return Secp256k1Signer(raw)
    except ValueError:
        reason = "its secret is malformed"
    raise KeyUnusable(f"{where} holds no key: {reason}")


def ed25519_signer(role: Role, keys_dir: Path | None = None) -> Ed25519Signer:
    """Load a role's key and insist that it is Ed25519. Raises: KeyUnusable."""
    signer = load_signer(role, keys_dir)
    if not isinstance(signer, Ed25519Signer):
        raise KeyUnusable(f"the key of the role {role} must be Ed25519")
    return signer


def secp256k1_signer(role: Role, keys_dir: Path | None = None) -> Secp256k1Signer:
    """Load a role's key and insist that it is secp256k1. Raises: KeyUnusable."""
    signer = load_signer(role, keys_dir)
    if not isinstance(signer, Secp256k1Signer):
        raise KeyUnusable(f"the key of the role {role} must be secp256k1")
    return signer
