"""Let programs and people in."""

import hashlib
import secrets

from jobs.models import ApiKey
from receipts.models import Tenant


def make_api_key(*, tenant: Tenant, label: str) -> str:
    """Make an API key `ts_<prefix>_<secret>` and give it: this is the only time that it is seen.

    The row keeps the prefix, which finds it, and the SHA-256 of the whole, which proves it.
    """
    key = new_api_key()
    ApiKey.objects.create(prefix=prefix_of(key), digest=digest_of(key), tenant=tenant, label=label)
    return key


def new_api_key() -> str:
    """Draw a key: 32 random bits to find it by, 256 to prove it."""
    return f"ts_{secrets.token_hex(4)}_{secrets.token_urlsafe(32)}"


def prefix_of(key: str) -> str:
    """The public part of a key, `ts_` and 8 digits."""
    return key[:11]


def digest_of(key: str) -> str:
    """What the house keeps of a key; 256 random bits need no slow hash."""
    return hashlib.sha256(key.encode()).hexdigest()
