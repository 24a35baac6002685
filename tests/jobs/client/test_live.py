"""The client against the real API: what it sends is taken, what it gets it can verify."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from pytest_django.live_server_helper import LiveServer

from jobs import pipeline
from jobs.accounts import make_api_key
from jobs.client import cli
from jobs.client.http import BadRequest, Conflict, NoSuchThing, NotAllowed, TallystickClient
from jobs.client.trust import fingerprint
from receipts import log
from receipts.canonical import nid
from receipts.keys import ed25519_signer
from receipts.models import Tenant
from tests.jobs.api.house import house, house_folder
from tests.jobs.cast import Bo, leased
from tests.jobs.test_tally import METER

__all__ = ["house", "house_folder"]
pytestmark = pytest.mark.django_db(transaction=True)


def key_of(tenant_id: str) -> str:
    """Make an API key."""
    tenant, _ = Tenant.objects.get_or_create(id=tenant_id, defaults={"name": tenant_id})
    return make_api_key(tenant=tenant, label="test")


@pytest.fixture
def client(transactional_db: None, house: None, live_server: LiveServer) -> Iterator[TallystickClient]:
    with TallystickClient(live_server.url, key_of("ada")) as given:
        yield given


def done(job_id: str) -> None:
    """Let Bo do a job, and the house note its evidence."""
    bo = Bo(Tenant.objects.get_or_create(id="house", defaults={"name": "House"})[0])
    attempt = leased(job_id)
    bo.start(attempt)
    bo.complete(attempt, meter=METER)
    pipeline.advance(job_id)


def test_from_a_signed_request_to_a_tally_that_holds(
    client: TallystickClient, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    signer = ed25519_signer("client", settings.KEYS_DIR)
    asked: dict[str, Any] = {"signer": signer, "idempotency_key": "once", "max_price": 10**13}
    inputs = {"prompt": "a red circle", "guidance": "3.50"}
    first = client.submit("text-to-image", inputs, **asked)
    assert first.created
    with pytest.raises(Conflict):
        client.artifact(first.job_id)
    with pytest.raises(Conflict, match="tally"):
        client.tally(first.job_id)
    done(first.job_id)
    log.turn()

    assert client.wait(first.job_id)["state"] == "completed"
    assert [job["job_id"] for job in client.list_jobs(state="completed")] == [first.job_id]
    receipts = client.receipts(first.job_id)
    assert receipts[0]["nid"] == first.nid == nid(client.receipt(first.nid))
    kept = client.download(first.job_id, tmp_path, disclose=("prompt",))
    assert [path.name for path in kept] == [f"{first.job_id}.tally.json", f"{first.job_id}-picture.png"]

    root = fingerprint(ed25519_signer("root", settings.KEYS_DIR).key_id)
    trust = str(tmp_path / "trust.json")
    assert cli.main(["trust", "add", client.base_url, "--root", root, "--client-key", signer.key_id, "-o", trust]) == 0
    capsys.readouterr()
    code = cli.main(["verify", str(kept[0]), "--trust", trust, "--artifact", str(kept[1]), "--json"])
    told = json.loads(capsys.readouterr().out)
    assert code == 0, told
    words = {item["claim"]: item["verdict"] for item in told["verdicts"]}
    assert words["request-signed"] == words["credential"] == words["disclosure"] == "holds"


def test_an_unsigned_request_repeated_is_told_the_same(client: TallystickClient) -> None:
    given = [client.submit("text-to-image", {"prompt": "a red circle"}, idempotency_key="k") for _ in range(2)]
    assert [item.created for item in given] == [True, False]
    assert given[0].job_id == given[1].job_id
    assert given[0].salts == given[1].salts
    with pytest.raises(BadRequest, match="another body"):
        client.submit("text-to-image", {"prompt": "a blue circle"}, idempotency_key="k")


def test_what_the_house_does_not_like_is_named_with_its_field(client: TallystickClient) -> None:
    with pytest.raises(BadRequest) as error:
        client.submit("text-to-image", {"prompt": "x", "steps": 0})
    assert error.value.field == "inputs.steps" and error.value.rule


def test_a_job_is_its_tenants_alone(client: TallystickClient) -> None:
    job = client.submit("text-to-image", {"prompt": "a red circle"})
    with TallystickClient(client.base_url, key_of("mallory")) as mallory:
        for look in (mallory.get, mallory.tally, mallory.artifact, mallory.receipts, mallory.cancel):
            with pytest.raises(NoSuchThing):
                look(job.job_id)
    with TallystickClient(client.base_url) as nobody, pytest.raises(NotAllowed):
        nobody.get(job.job_id)


def test_cancelling_twice_is_a_conflict(client: TallystickClient) -> None:
    job = client.submit("text-to-image", {"prompt": "a red circle"})
    assert client.cancel(job.job_id)["state"] == "cancelled"
    with pytest.raises(Conflict):
        client.cancel(job.job_id)
