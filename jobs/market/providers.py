"""Register who serves GPU time: its row, its key, its receipt."""

from django.db import transaction

from jobs.admission import hub_key_id
from jobs.models import Provider
from receipts.keyring import add_key
from receipts.models import Tenant
from receipts.record import record


def register_provider(
    *, slug: str, name: str, tenant: Tenant, key_id: str, payout: str, kinds: list[str], unit_type: str, price: int
) -> Provider:
    """Let a provider serve. Repeating it for the same key changes nothing."""
    known = Provider.objects.filter(key_id=key_id).first()
    if known is not None:
        return known
    with transaction.atomic():
        add_key(role="provider", alg="Ed25519", key_id=key_id, tenant=tenant, label=name)
        provider = Provider.objects.create(
            slug=slug,
            name=name,
            tenant=tenant,
            key_id=key_id,
            payout=payout,
            kinds=kinds,
            unit_type=unit_type,
            price=price,
        )
        record(
            event_type="ProviderRegistered",
            subject=f"provider:{key_id}",
            tenant_id=tenant.pk,
            actor=f"hub:{hub_key_id()}",
            data={"provider": key_id, "payout": payout, "kinds": kinds, "unit_type": unit_type, "price": str(price)},
        )
    return provider
