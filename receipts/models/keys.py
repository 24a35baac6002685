"""The public halves of keys: who may sign what, from which leaf to which."""

from django.db import models


class PublicKey(models.Model):
    """A key and its one role. It counts for receipts from leaf `since_leaf` until before `until_leaf`."""

    class Role(models.TextChoices):
        ROOT = "root"
        LOG = "log"
        HUB = "hub"
        ATTESTER = "attester"
        PROVIDER = "provider"
        REPORTER = "reporter"
        CLIENT = "client"
        C2PA = "c2pa"
        SENDER = "sender"
        WITNESS = "witness"

    class Alg(models.TextChoices):
        ED25519 = "Ed25519"
        SECP256K1 = "secp256k1"
        ES256 = "ES256"

    role = models.CharField(max_length=10, choices=Role.choices)
    alg = models.CharField(max_length=10, choices=Alg.choices)
    key_id = models.CharField(max_length=66, help_text="Ed25519: base64url of the public key; secp256k1: the address")
    tenant = models.ForeignKey("receipts.Tenant", null=True, blank=True, on_delete=models.PROTECT)
    label = models.CharField(max_length=120, blank=True)
    since_leaf = models.BigIntegerField(default=0)
    until_leaf = models.BigIntegerField(null=True, blank=True)
    added_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["role", "id"]
        constraints = [models.UniqueConstraint(fields=["role", "key_id"], name="one_role_a_key")]

    def __str__(self) -> str:
        return f"{self.role} {self.key_id}"
