"""Tell who calls: a program by its API key, a person by the console's session."""

import hmac
import re
from dataclasses import dataclass
from typing import Any, Final

from django.contrib.auth.models import AnonymousUser
from rest_framework.authentication import BaseAuthentication, SessionAuthentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from jobs.accounts import digest_of, prefix_of
from jobs.models import ApiKey, User
from receipts.api.access import Access
from receipts.models import Tenant

_FORM: Final = re.compile(r"ts_[A-Za-z0-9]{8}_[A-Za-z0-9_-]{32,100}")


@dataclass(frozen=True, slots=True)
class KeyHolder:
    """The program behind an API key, where Django expects a user."""

    key: ApiKey
    is_authenticated = True
    is_anonymous = False
    is_active = True
    is_staff = False

    @property
    def tenant(self) -> Tenant:
        """Whose program it is."""
        return self.key.tenant

    @property
    def pk(self) -> str:
        """What the program is told apart by."""
        return self.key.prefix

    def __str__(self) -> str:
        return f"API key {self.key.prefix}…"


class ApiKeyAuthentication(BaseAuthentication):
    """`Authorization: Bearer <key>`."""

    def authenticate(self, request: Request) -> tuple[Any, Access] | None:
        """Recognise the key, with its tenant, in one query. Raises: AuthenticationFailed."""
        scheme, _, text = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            return None
        key = find_key(text.strip())
        if key is None:
            raise AuthenticationFailed("This API key is not known here, or was revoked.")
        return KeyHolder(key), Access(key.tenant_id, may_change=True, actor=f"api-key:{key.prefix}")

    def authenticate_header(self, request: Request) -> str:
        """Ask for a key where none came."""
        return 'Bearer realm="tallystick"'


class ConsoleSession(SessionAuthentication):
    """The console's session, so that the API can be used by hand in a browser. Changes need the CSRF token."""

    def authenticate(self, request: Request) -> tuple[User | AnonymousUser, Access] | None:
        """Take the person who is logged in. Raises: PermissionDenied, without a CSRF token."""
        found = super().authenticate(request)
        if found is None:
            return None
        user = found[0]
        assert isinstance(user, User)
        return user, access_of_person(user)


def find_key(text: str) -> ApiKey | None:
    """Find the key in force that this text is, its tenant with it, in one query."""
    if _FORM.fullmatch(text) is None:
        return None
    key = ApiKey.objects.select_related("tenant").filter(prefix=prefix_of(text), revoked_at=None).first()
    # The prefix is public, so that its absence may be told by time; the secret must not be.
    return key if key and hmac.compare_digest(key.digest, digest_of(text)) else None


def access_of_person(user: User) -> Access:
    """Say what a person may see and do.

    Auditors and operators of the house see everything and change nothing here; those of one tenant see that tenant.
    """
    watches = user.is_superuser or user.role in (User.Role.AUDITOR, User.Role.OPERATOR)
    return Access(
        user.tenant_id,
        reads_all=watches and user.tenant_id is None,
        may_change=not watches and user.tenant_id is not None,
        actor=f"client:user-{user.pk}",
    )
