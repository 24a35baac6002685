"""Whose data it is."""

from django.core.validators import RegexValidator
from django.db import models


class Tenant(models.Model):
    """An organisation or person that owns rows; nothing of one tenant is ever shown to another."""

    id = models.CharField(
        primary_key=True,
        max_length=40,
        validators=[RegexValidator(r"\A[a-z0-9][a-z0-9-]{0,39}\Z", "lower-case letters, digits and hyphens")],
    )
    name = models.CharField(max_length=120)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["id"]

    def __str__(self) -> str:
        return self.name
