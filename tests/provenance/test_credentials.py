"""One row decides which signed file is the signed one, whoever signed how often and wherever it crashed."""

import io
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import pytest
from django.db import connection, transaction
from pytest_django import Settings

from provenance.authority import Authority
from provenance.credentials import (
    IssuedCredential,
    find_credential,
    house_authority,
    keep,
    keep_artifact,
    prepare_credential,
)
from provenance.errors import AuthorityMissing, BlobMissing, NameTaken, NotSignable
from provenance.manifest import CredentialFacts
from provenance.models import Artifact, Blob, Credential
from provenance.sign import PreparedCredential
from provenance.store import Store, house_store
from provenance.tasks import sweep_store
from provenance.verify import CredentialReading, read_credential
from receipts.models import Tenant
from tests.provenance.conftest import FACTS, drawing

pytestmark = pytest.mark.django_db

Answer = TypeVar("Answer")


@pytest.fixture
def house(settings: Settings, authority: Authority, tmp_path: Path) -> Store:
    """Settle the house into folders of this test, with the session's authority."""
    settings.STORE_DIR = tmp_path / "store"
    settings.KEYS_DIR = authority.folder.parent
    return house_store()


@pytest.fixture
def ada() -> Tenant:
    return Tenant.objects.create(id="ada", name="Ada")


def output(house: Store, tenant: Tenant, data: bytes, mime: str = "image/png", name: str = "a.png") -> CredentialFacts:
    """Keep an output as the pipeline does, and give the facts of its credential."""
    stored = house.put(io.BytesIO(data))
    keep_artifact(tenant=tenant, subject=FACTS.job_id, role=Artifact.Role.OUTPUT, name=name, stored=stored, mime=mime)
    return replace(FACTS, unsigned_sha256=stored.sha256)


def artifacts() -> list[tuple[str, str, str]]:
    return [(row.role, row.name, row.blob_id) for row in Artifact.objects.all()]


def test_an_output_gets_one_credential_and_the_rows_name_its_bytes(house: Store, ada: Tenant) -> None:
    facts = output(house, ada, drawing(16))
    issued = keep(tenant=ada, prepared=prepare_credential(mime="image/png", facts=facts))
    reading = read_credential(house.path_of(issued.signed_sha256), None, root_pem=house_authority().root_pem)
    assert isinstance(reading, CredentialReading)
    assert reading.trusted
    assert (issued.unsigned_sha256, issued.manifest_label) == (facts.unsigned_sha256, reading.label)
    assert (issued.embedded, issued.manifest_sha256, issued.alg) == (True, None, "ES256")
    assert issued.certificate_sha256 == house_authority().leaf_sha256
    assert issued.signed_size == house.path_of(issued.signed_sha256).stat().st_size
    assert artifacts() == [
        ("output", "a.png", facts.unsigned_sha256),
        ("signed", "a.png", issued.signed_sha256),
    ]
    assert find_credential(tenant=ada, subject=FACTS.job_id, unsigned_sha256=facts.unsigned_sha256) == issued


def test_a_detached_credential_is_an_artifact_of_its_own(house: Store, ada: Tenant) -> None:
    facts = output(house, ada, b'{"a":1}', "application/json", "a.json")
    issued = keep(tenant=ada, prepared=prepare_credential(mime="application/json", facts=facts))
    assert issued.signed_sha256 == facts.unsigned_sha256
    assert issued.manifest_sha256 is not None
    assert house.exists(issued.manifest_sha256)
    assert artifacts() == [
        ("output", "a.json", facts.unsigned_sha256),
        ("signed", "a.json", facts.unsigned_sha256),
        ("manifest", "a.json.c2pa", issued.manifest_sha256),
    ]


def test_whoever_signs_second_gets_the_firsts_credential(house: Store, ada: Tenant) -> None:
    facts = output(house, ada, drawing(16))
    one, two = (prepare_credential(mime="image/png", facts=facts) for _ in range(2))
    assert one.signed != two.signed
    first = keep(tenant=ada, prepared=one)
    assert keep(tenant=ada, prepared=two) == first
    assert first.signed_sha256 == one.signed.sha256
    assert Credential.objects.count() == 1
    assert [role for role, _, _ in artifacts()] == ["output", "signed"]


def test_a_crash_after_storing_and_before_the_rows_leaves_no_second_credential(house: Store, ada: Tenant) -> None:
    facts = output(house, ada, drawing(16))
    lost = prepare_credential(mime="image/png", facts=facts)
    with pytest.raises(KeyboardInterrupt), transaction.atomic():
        keep(tenant=ada, prepared=lost)
        raise KeyboardInterrupt
    assert Credential.objects.count() == 0
    assert Blob.objects.filter(sha256=lost.signed.sha256).count() == 0
    issued = keep(tenant=ada, prepared=prepare_credential(mime="image/png", facts=facts))
    assert Credential.objects.get().signed_id == issued.signed_sha256 != lost.signed.sha256


def on_own_connection(deed: Callable[[], Answer]) -> Answer:
    """Do something outside this test's transaction, and commit it."""

    def do() -> Answer:
        try:
            with transaction.atomic():
                return deed()
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as other:
        return other.submit(do).result(60)


@pytest.fixture
def committed_ada() -> Iterator[Tenant]:
    """Make an Ada whom other connections see too, and remove what she owns at the end."""
    yield on_own_connection(lambda: Tenant.objects.create(id="ada-committed", name="Ada"))

    def forget() -> None:
        for model in (Artifact, Credential, Blob):
            model.objects.all().delete()
        Tenant.objects.filter(id="ada-committed").delete()

    on_own_connection(forget)


def test_workers_that_finish_at_the_same_moment_agree_on_one_credential(house: Store, committed_ada: Tenant) -> None:
    facts = on_own_connection(lambda: output(house, committed_ada, drawing(16)))
    prepared = [prepare_credential(mime="image/png", facts=facts) for _ in range(4)]
    together = threading.Barrier(len(prepared))

    def work(mine: PreparedCredential) -> IssuedCredential:
        together.wait(30)
        return on_own_connection(lambda: keep(tenant=committed_ada, prepared=mine))

    with ThreadPoolExecutor(len(prepared)) as workers:
        answers = set(workers.map(work, prepared))
    assert len(answers) == 1
    assert Credential.objects.count() == 1
    assert [role for role, _, _ in artifacts()] == ["output", "signed"]


def test_two_tenants_with_the_same_bytes_share_a_blob_and_nothing_else(house: Store, ada: Tenant) -> None:
    mallory = Tenant.objects.create(id="mallory", name="Mallory")
    facts = output(house, ada, drawing(16))
    output(house, mallory, drawing(16))
    assert Blob.objects.count() == 1
    keep(tenant=ada, prepared=prepare_credential(mime="image/png", facts=facts))
    assert find_credential(tenant=mallory, subject=FACTS.job_id, unsigned_sha256=facts.unsigned_sha256) is None


def test_a_name_stands_for_the_same_bytes_for_good(house: Store, ada: Tenant) -> None:
    facts = output(house, ada, drawing(16))
    assert output(house, ada, drawing(16)) == facts
    with pytest.raises(NameTaken, match=r"job_ada a\.png"):
        output(house, ada, drawing(16, seed=2))
    assert artifacts() == [("output", "a.png", facts.unsigned_sha256)]


def test_an_output_above_the_limit_gets_no_credential(house: Store, ada: Tenant, settings: Settings) -> None:
    facts = output(house, ada, drawing(16))
    settings.C2PA_MAX_BYTES = 100
    with pytest.raises(NotSignable, match="at most 100 are signed"):
        prepare_credential(mime="image/png", facts=facts)


def test_an_output_that_was_never_kept_is_missing(house: Store) -> None:
    with pytest.raises(BlobMissing):
        prepare_credential(mime="image/png", facts=FACTS)


def test_a_house_without_certificates_says_so(house: Store, settings: Settings, tmp_path: Path) -> None:
    settings.KEYS_DIR = tmp_path / "nothing"
    with pytest.raises(AuthorityMissing):
        prepare_credential(mime="image/png", facts=FACTS)


def test_the_tidying_task_removes_only_drafts_older_than_the_setting(house: Store, settings: Settings) -> None:
    settings.STORE_SWEEP_AFTER_S = 3600
    with house.draft() as fresh, house.draft() as old:
        os.utime(old, (0, 0))
        sweep_store()
        assert fresh.exists()
        assert not old.exists()
