"""Evidence is read-only in the console, whoever looks at it."""

from typing import Any

import pytest
from django.contrib import admin
from django.test import Client
from django.urls import reverse

from jobs.models import User as Person
from receipts.models import Receipt

EVIDENCE = [
    "receipts_receipt",
    "receipts_bundle",
    "receipts_checkpoint",
    "receipts_chaintransaction",
    "receipts_commit",
    "receipts_publickey",
    "receipts_senderstatus",
    "receipts_numbersorder",
    "receipts_numbersplace",
    "receipts_tenant",
    "receipts_witnessalarm",
    "receipts_witnessedlog",
    "receipts_misbehaviour",
    "receipts_erasure",
    "provenance_artifact",
    "provenance_credential",
    "minting_usage",
    "jobs_job",
    "jobs_attempt",
    "jobs_provider",
    "jobs_apikey",
]


def test_every_model_of_the_console_is_evidence_or_people() -> None:
    names = {f"{model._meta.app_label}_{model._meta.model_name}" for model in admin.site._registry}
    assert names == {*EVIDENCE, "jobs_user"}


@pytest.mark.parametrize("who", ["op", "auditor"])
@pytest.mark.parametrize("name", EVIDENCE)
def test_nobody_adds_changes_or_deletes_evidence(
    name: str, who: str, client: Client, founded: dict[str, Person], rf: Any
) -> None:
    model = next(m for m in admin.site._registry if f"{m._meta.app_label}_{m._meta.model_name}" == name)
    request = rf.get("/")
    request.user = founded[who]
    shown = admin.site._registry[model]
    assert shown.has_view_permission(request)
    assert not shown.has_add_permission(request)
    assert not shown.has_change_permission(request)
    assert not shown.has_delete_permission(request)
    client.force_login(founded[who])
    assert client.get(reverse(f"admin:{name}_changelist")).status_code == 200
    assert client.get(reverse(f"admin:{name}_add")).status_code == 403


def test_posting_to_a_receipt_changes_nothing(as_operator: Client, done: str) -> None:
    receipt = Receipt.objects.filter(subject=done).first()
    assert receipt is not None
    before = (bytes(receipt.body), receipt.seq)
    as_operator.post(reverse("admin:receipts_receipt_change", args=[receipt.pk]), {"seq": 9, "body": "{}"})
    answer = as_operator.post(reverse("admin:receipts_receipt_delete", args=[receipt.pk]), {"post": "yes"})
    receipt.refresh_from_db()
    assert answer.status_code == 403
    assert (bytes(receipt.body), receipt.seq) == before


def test_a_superuser_changes_no_evidence_either(client: Client, done: str) -> None:
    client.force_login(Person.objects.get(username="admin"))
    receipt = Receipt.objects.filter(subject=done).first()
    assert receipt is not None
    assert client.post(reverse("admin:receipts_receipt_delete", args=[receipt.pk]), {"post": "yes"}).status_code == 403
    assert Receipt.objects.filter(pk=receipt.pk).exists()
