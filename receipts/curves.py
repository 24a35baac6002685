"""Check signatures on two curves and hash with keccak, by C libraries or, where there are none, by Python alone. Pure.

The house and its command line have libsodium (PyNaCl), libsecp256k1 (coincurve) and a keccak in C. The one-file
verifier has nothing to compile: it carries the package `ecdsa`, whose points of both curves are computed with here.
Nothing secret is ever computed with the Python half: it checks, and never signs.

Both halves take and refuse the same: tests hold them against each other, on published vectors, on every change of a
signature, and on whole tallies.

Source: RFC 8032 §5.1.7 as libsodium checks it (without the cofactor, no point of small order, no second spelling
of a point or a scalar); SEC 1 §4.1.6 (recovery); the Keccak reference (keccak-256 pads with 0x01).
"""

import hashlib
from functools import cache
from importlib.util import find_spec
from typing import Any, Final

_RATE: Final = 136  # bytes of keccak-256's state that take input
_LANE: Final = 2**64 - 1


class NoSuchKey(ValueError):
    """A signature recovers to no key."""


@cache
def _has(name: str) -> bool:
    return find_spec(name) is not None


def ed25519_fits(public: bytes, text: bytes, signature: bytes) -> bool:
    """Tell whether `signature` (64 bytes) was made over `text` by the holder of `public` (32 bytes)."""
    if len(public) != 32 or len(signature) != 64:
        return False
    return (_ed25519_native if _has("nacl") else ed25519_in_python)(public, text, signature)


def recover_public(digest: bytes, signature: bytes, recovery: int) -> bytes:
    """Recover the secp256k1 key (65 bytes) that signed a 32-byte digest: r ‖ s, and 0 or 1 for the parity of R's y.

    Raises: NoSuchKey.
    """
    if len(digest) != 32 or len(signature) != 64 or recovery not in (0, 1):
        raise NoSuchKey("a digest has 32 bytes, r and s have 64, and the recovery is 0 or 1")
    return (_recover_native if _has("coincurve") else recover_in_python)(digest, signature, recovery)


def keccak_256(data: bytes) -> bytes:
    """Hash with Ethereum's keccak-256."""
    if not _has("sha3"):
        return keccak_in_python(data)
    import sha3

    return bytes(sha3.keccak_256(data).digest())


# --- by C libraries ------------------------------------------------------------------------------


def _ed25519_native(public: bytes, text: bytes, signature: bytes) -> bool:
    from nacl.exceptions import BadSignatureError
    from nacl.signing import VerifyKey

    try:
        VerifyKey(public).verify(text, signature)
    except (BadSignatureError, ValueError):
        return False
    return True


def _recover_native(digest: bytes, signature: bytes, recovery: int) -> bytes:
    from coincurve import PublicKey

    try:
        found = PublicKey.from_signature_and_message(signature + bytes([recovery]), digest, hasher=None)
    except Exception as error:  # coincurve raises bare Exception and ValueError for points off the curve
        raise NoSuchKey(str(error)) from None
    return bytes(found.format(compressed=False))


# --- by Python alone -----------------------------------------------------------------------------


def ed25519_in_python(public: bytes, text: bytes, signature: bytes) -> bool:
    """Check as libsodium does: S·B is k·A + R, and neither A nor R is of small order."""
    from ecdsa.eddsa import generator_ed25519 as base

    scalar = int.from_bytes(signature[32:], "little")
    a, r = _edwards_point(public), _edwards_point(signature[:32])
    if a is None or r is None or scalar >= base.order():
        return False
    hashed = hashlib.sha512(signature[:32] + public + text).digest()
    challenge = int.from_bytes(hashed, "little") % base.order()
    return bool(base * scalar == a * challenge + r)


def recover_in_python(digest: bytes, signature: bytes, recovery: int) -> bytes:
    """Recover a secp256k1 key: Q = r⁻¹·(s·R − e·G)."""
    from ecdsa.ecdsa import generator_secp256k1 as base
    from ecdsa.ellipticcurve import INFINITY, PointJacobi

    curve, order = base.curve(), base.order()
    r, s = int.from_bytes(signature[:32]), int.from_bytes(signature[32:])
    if not (0 < r < order and 0 < s < order):
        raise NoSuchKey("r and s are from 1 to the order of the curve")
    prime = curve.p()
    square = (r**3 + curve.b()) % prime
    y = pow(square, (prime + 1) // 4, prime)
    if y * y % prime != square:
        raise NoSuchKey("r is no point's x")
    if y & 1 != recovery:
        y = prime - y
    inverse = pow(r, -1, order)
    point = PointJacobi(curve, r, y, 1, order)
    found = point.mul_add(s * inverse % order, base, -int.from_bytes(digest) * inverse % order)
    if found == INFINITY:
        raise NoSuchKey("recovers to the point at infinity")
    return b"\x04" + int(found.x()).to_bytes(32) + int(found.y()).to_bytes(32)


def keccak_in_python(data: bytes) -> bytes:
    """Hash with keccak-256, lane by lane."""
    padded = bytearray(data) + b"\x01" + bytes(-(len(data) + 1) % _RATE)
    padded[-1] |= 0x80
    lanes = [0] * 25
    for at in range(0, len(padded), _RATE):
        for lane in range(_RATE // 8):
            lanes[lane] ^= int.from_bytes(padded[at + 8 * lane : at + 8 * lane + 8], "little")
        _permute(lanes)
    return b"".join(lane.to_bytes(8, "little") for lane in lanes[:4])


@cache
def _round_constants() -> tuple[int, ...]:
    register, found = 1, []
    for _ in range(24):
        constant = 0
        for power in range(7):
            if register & 1:
                constant |= 1 << ((1 << power) - 1)
            register = (register << 1) ^ (0x171 if register & 0x80 else 0)
        found.append(constant)
    return tuple(found)


def _permute(lanes: list[int]) -> None:
    """Keccak-f[1600]: theta, rho and pi, chi, iota. Lane x, y is at x + 5·y."""
    for constant in _round_constants():
        columns = [lanes[x] ^ lanes[x + 5] ^ lanes[x + 10] ^ lanes[x + 15] ^ lanes[x + 20] for x in range(5)]
        for x in range(5):
            mixed = columns[x - 1] ^ _rotated(columns[(x + 1) % 5], 1)
            for y in range(0, 25, 5):
                lanes[x + y] ^= mixed
        x, y, carried = 1, 0, lanes[1]
        for step in range(24):
            x, y = y, (2 * x + 3 * y) % 5
            carried, lanes[x + 5 * y] = lanes[x + 5 * y], _rotated(carried, (step + 1) * (step + 2) // 2 % 64)
        for y in range(0, 25, 5):
            row = lanes[y : y + 5]
            for x in range(5):
                lanes[x + y] = row[x] ^ (~row[(x + 1) % 5] & _LANE & row[(x + 2) % 5])
        lanes[0] ^= constant


def _rotated(lane: int, by: int) -> int:
    return ((lane << by) | (lane >> (64 - by))) & _LANE


def _edwards_point(data: bytes) -> Any:
    """Read a point in its one spelling; None for what is none, and for one of small order."""
    from ecdsa.eddsa import curve_ed25519
    from ecdsa.ellipticcurve import PointEdwards
    from ecdsa.errors import MalformedPointError

    if int.from_bytes(data, "little") & (2**255 - 1) >= curve_ed25519.p():
        return None
    try:
        point = PointEdwards.from_bytes(curve_ed25519, data)
    except (MalformedPointError, ValueError):
        return None
    return None if _times_8(point) == _neutral() else point


def _times_8(point: Any) -> Any:
    for _ in range(3):
        point = point.double()
    return point


@cache
def _neutral() -> Any:
    from ecdsa.ellipticcurve import INFINITY

    return INFINITY
