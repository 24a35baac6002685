"""Who comes in, and how far: by role, and by tenant."""

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client
from django.urls import reverse

from jobs.models import ApiKey, Provider
from jobs.models import User as Person
from provenance.models import Artifact
from receipts.canonical import decode, field_digest, unb64url
from receipts.models import Receipt, Thread
from tests.console import house
from tests.console.house import PASSWORD


@pytest.mark.parametrize(("who", "let_in"), [("op", True), ("auditor", True), ("client", False)])
def test_the_login_lets_in_by_role(who: str, let_in: bool, client: Client, founded: dict[str, Person]) -> None:
    answer = client.post("/admin/login/", {"username": who, "password": PASSWORD, "next": "/admin/"})
    assert (answer.status_code == 302) is let_in
    assert (client.get("/admin/").status_code == 200) is let_in


def test_a_client_who_is_signed_in_elsewhere_is_refused(client: Client, founded: dict[str, Person], done: str) -> None:
    client.force_login(founded["client"])
    for url in ("/admin/", "/admin/jobs/job/", f"/admin/jobs/job/{done}/change/", f"/admin/jobs/job/{done}/tally/"):
        answer = client.get(url)
        assert answer.status_code == 302, url
        assert answer["Location"].startswith("/admin/login/")


def test_an_inactive_auditor_is_refused(client: Client, founded: dict[str, Person]) -> None:
    client.force_login(founded["auditor"])
    Person.objects.filter(pk=founded["auditor"].pk).update(is_active=False)
    assert client.get("/admin/").status_code == 302


def test_one_tenants_auditor_never_sees_anothers_rows(client: Client, founded: dict[str, Person], done: str) -> None:
    client.force_login(founded["outsider"])
    artifact = Artifact.objects.filter(subject=done).first()
    receipt = Receipt.objects.filter(subject=done).first()
    assert artifact is not None and receipt is not None
    for url in (
        f"/admin/jobs/job/{done}/change/",
        f"/admin/jobs/job/{done}/now/",
        f"/admin/jobs/job/{done}/tally/",
        f"/admin/jobs/job/{done}/artifact/{artifact.pk}/",
        f"/admin/receipts/receipt/{receipt.pk}/change/",
    ):
        assert client.get(url).status_code in (302, 404), url
    for name in ("jobs/job", "jobs/attempt", "provenance/artifact", "minting/usage", "jobs/apikey", "receipts/receipt"):
        page = client.get(f"/admin/{name}/").content.decode()
        assert done not in page, name
    assert done not in client.get("/admin/").content.decode()


def test_an_artifact_is_served_for_its_own_job_alone(as_auditor: Client, done: str) -> None:
    artifact = Artifact.objects.filter(subject=done, role=Artifact.Role.SIGNED).get()
    answer = as_auditor.get(f"/admin/jobs/job/{done}/artifact/{artifact.pk}/")
    assert answer.status_code == 200
    assert answer["Content-Type"] == "image/png"
    assert answer["Content-Security-Policy"] == "default-src 'none'; sandbox"
    assert b"".join(answer.streaming_content).startswith(b"\x89PNG")  # type: ignore[attr-defined]
    other = house.submit("a blue square", key="second")
    assert as_auditor.get(f"/admin/jobs/job/{other}/artifact/{artifact.pk}/").status_code == 404
    assert as_auditor.get(f"/admin/jobs/job/{done}/artifact/999999/").status_code == 404


def test_an_auditor_may_not_steer_and_sees_no_people(as_auditor: Client, founded: dict[str, Person]) -> None:
    key = ApiKey.objects.get()
    url = reverse("admin:jobs_apikey_changelist")
    as_auditor.post(url, {"action": "revoke", "_selected_action": [key.pk]})
    key.refresh_from_db()
    assert key.revoked_at is None
    assert as_auditor.get(reverse("admin:jobs_user_changelist")).status_code == 403
    assert "People" not in as_auditor.get("/admin/").content.decode()


def test_an_operator_revokes_a_key_and_the_act_leaves_a_receipt(as_operator: Client) -> None:
    key = ApiKey.objects.get()
    url = reverse("admin:jobs_apikey_changelist")
    page = as_operator.post(url, {"action": "revoke", "_selected_action": [key.pk]}, follow=True)
    key.refresh_from_db()
    assert key.revoked_at is not None
    assert "1 key revoked." in page.content.decode()
    assert Receipt.objects.filter(event_type="AdminAction").count() == 1
    as_operator.post(url, {"action": "revoke", "_selected_action": [key.pk]})
    assert Receipt.objects.filter(event_type="AdminAction").count() == 1, "nothing was done, nothing is told"


def test_who_acted_stands_in_the_receipt_as_a_digest_that_the_consoles_log_opens(
    as_operator: Client, founded: dict[str, Person]
) -> None:
    as_operator.post(
        reverse("admin:jobs_apikey_changelist"), {"action": "revoke", "_selected_action": [ApiKey.objects.get().pk]}
    )
    receipt = Receipt.objects.get(event_type="AdminAction")
    kept = LogEntry.objects.get(object_id=receipt.nid)
    salt = unb64url(kept.change_message.removeprefix("salt "), size=16)
    told = decode(bytes(receipt.body))["data"]
    assert told["by"] == field_digest("by", "op", salt)
    assert "op" not in (told["action"], told["by"])
    assert kept.user == founded["op"]


def test_an_operator_pauses_a_provider_and_offers_it_work_again(as_operator: Client) -> None:
    provider = Provider.objects.get()
    url = reverse("admin:jobs_provider_changelist")
    as_operator.post(url, {"action": "pause", "_selected_action": [provider.pk]})
    provider.refresh_from_db()
    assert not provider.active
    as_operator.post(url, {"action": "resume", "_selected_action": [provider.pk]})
    provider.refresh_from_db()
    assert Provider.objects.get().active
    assert Thread.objects.get(pk="desk").seq == 2


def test_an_operator_adds_an_auditor_and_changes_no_superuser(as_operator: Client) -> None:
    told = {
        "username": "new",
        "usable_password": "true",
        "password1": PASSWORD + "-1",
        "password2": PASSWORD + "-1",
        "role": "auditor",
    }
    assert as_operator.post(reverse("admin:jobs_user_add"), told).status_code == 302
    added = Person.objects.get(username="new")
    assert added.role == "auditor" and added.is_staff and not added.is_superuser
    assert Receipt.objects.filter(event_type="AdminAction").count() == 1
    above = Person.objects.get(username="admin")
    url = reverse("admin:jobs_user_change", args=[above.pk])
    assert as_operator.post(url, {"username": "admin", "role": "client"}).status_code == 403
    assert as_operator.post(reverse("admin:auth_user_password_change", args=[above.pk]), {}).status_code == 403


def test_the_console_allows_what_it_needs_and_nothing_from_elsewhere(as_auditor: Client, done: str) -> None:
    for path in ("/admin/", "/admin/login/", f"/admin/jobs/job/{done}/change/"):
        policy = dict(part.split(" ", 1) for part in as_auditor.get(path)["Content-Security-Policy"].split("; "))
        assert policy["script-src"] == "'self' 'unsafe-eval'", path
        assert policy["default-src"] == "'self'"
        assert policy["frame-ancestors"] == "'none'"


def test_what_is_not_there_is_said_in_the_houses_own_words(as_auditor: Client) -> None:
    answer = as_auditor.get("/admin/receipts/receipt/999999/change/")
    assert answer.status_code == 404
    assert "Nothing is here" in answer.content.decode()
