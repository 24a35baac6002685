"""What operators may do by hand, each act with its receipt: who did it stands there as a salted digest."""

import secrets
from collections.abc import Collection

from django.contrib.admin.models import CHANGE, LogEntry
from django.db import transaction
from django.db.models import QuerySet

from jobs.models import ApiKey, Provider, User
from receipts.canonical import b64url, field_digest
from receipts.models import Thread
from receipts.record import database_now, record

SUBJECT = "desk"


def revoke_api_keys(*, keys: QuerySet[ApiKey], by: User) -> int:
    """Close the door for API keys, for good; give how many were open."""
    with transaction.atomic():
        revoked = keys.filter(revoked_at=None).update(revoked_at=database_now())
        if revoked:
            note_action(action="api-key-revoked", by=by, count=revoked)
    return revoked


def set_providers_active(*, providers: QuerySet[Provider], active: bool, by: User) -> int:
    """Offer providers work again, or no longer; running leases go on. Give how many were changed."""
    with transaction.atomic():
        changed = providers.exclude(active=active).update(active=active)
        if changed:
            note_action(action="provider-resumed" if active else "provider-paused", by=by, count=changed)
    return changed


def save_person(*, person: User, by: User, changed: Collection[str]) -> None:
    """Keep a person who was added (`changed` is empty) or changed."""
    person.is_staff = person.role in (User.Role.AUDITOR, User.Role.OPERATOR)
    with transaction.atomic():
        action = "person-changed" if person.pk else "person-added"
        person.save()
        note_action(action=action, by=by, count=max(1, len(changed)))


def note_action(*, action: str, by: User, count: int) -> None:
    """Write the receipt of one act at the desk, inside its transaction; the console's own log keeps who it was.

    The salt that opens the receipt's digest stands in that log and nowhere else.
    """
    salt = secrets.token_bytes(16)
    last = Thread.objects.select_for_update().filter(pk=SUBJECT).values_list("seq", flat=True).first()
    told = record(
        event_type="AdminAction",
        subject=SUBJECT,
        tenant_id=None,
        actor=f"operator:{by.pk}",
        data={"action": action, "by": field_digest("by", by.get_username(), salt), "count": count},
        n=(last or 0) + 1,
    )
    LogEntry.objects.create(
        user=by, action_flag=CHANGE, object_id=told.nid, object_repr=action, change_message=f"salt {b64url(salt)}"
    )
