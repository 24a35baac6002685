"""Tell who calls: a program by its API key, a person by the console's session."""

import datetime as dt
import hmac
import re
from dataclasses import dataclass
from typing import Any, Final

from django.contrib.auth.models import AnonymousUser
from django.db import connection
from rest_framework.authentication import BaseAuthentication, SessionAuthentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from jobs.accounts import digest_of, prefix_of
from jobs.models import User
from receipts.api.access import Access

_FORM: Final = re.compile(r"ts_[A-Za-z0-9]{8}_[A-Za-z0-9_-]{32,100}")
# By hand: every request pays for this one, and building the query anew would cost it more than asking.
_FIND: Final = (
    "SELECT prefix, tenant_id, clock_timestamp(), digest FROM jobs_apikey WHERE prefix = %s AND revoked_at IS NULL"
)


@dataclass(frozen=True, slots=True)
class KeyHolder:
    """The program behind an API key, where Django expects a user."""

    prefix: str
    tenant_id: str
    asked_at: dt.datetime  # by the database's clock
    is_authenticated = True
    is_anonymous = False
    is_active = True
    is_staff = False

    @property
    def pk(self) -> str:
        """What the program is told apart by."""
        return self.prefix

    def __str__(self) -> str:
        return f"API key {self.prefix}…"


class ApiKeyAuthentication(BaseAuthentication):
    """`Authorization: Bearer <key>`."""

    def authenticate(self, request: Request) -> tuple[Any, Access] | None:
        """Recognise the key, with its tenant, in one query. Raises: AuthenticationFailed."""
        scheme, _, text = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            return None
        holder = find_key(text.strip())
        if holder is None:
            raise AuthenticationFailed("This API key is not known here, or was revoked.")
        return holder, Access(holder.tenant_id, may_change=True, actor=f"api-key:{holder.prefix}")

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


def find_key(text: str) -> "KeyHolder | None":
    """Find the key in force that this text is, its tenant with it, in one query."""
    if _FORM.fullmatch(text) is None:
        return None
    with connection.cursor() as cursor:
        cursor.execute(_FIND, [prefix_of(text)])
        row = cursor.fetchone()
    # The prefix is public, so that its absence may be told by time; the secret must not be.
    if row is None or not hmac.compare_digest(row[3], digest_of(text)):
        return None
    return KeyHolder(*row[:3])


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
