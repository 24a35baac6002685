"""Under COMMIT_POLICY=each a job's whole story stands on the chain by itself, receipt by receipt."""

import json
from typing import Any

import pytest

from jobs import pipeline, worker
from jobs.job_page import JobPage
from jobs.models import Job
from jobs.states import EvidenceState
from receipts.chain.sender import node, sender_signer
from receipts.commits import commit_receipts
from receipts.committers.evm import find_commits
from receipts.log import log_head
from receipts.models import Commit, Receipt, Tenant, Uncommitted
from receipts.models.transactions import TransactionState
from tests.flow.test_line import submit_signed
from tests.flow.turns import turn_until

pytestmark = pytest.mark.chain


def test_every_receipt_of_a_job_is_committed_on_its_nid(
    house: dict[str, Any], ada: Tenant, settings: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    settings.COMMIT_POLICY = "each"
    job_id = submit_signed(ada)
    pipeline.advance(job_id)
    assert worker.work("bo") == 1
    turn_until(lambda: Job.objects.get(pk=job_id).evidence == EvidenceState.COMPLETE, advancing=job_id)
    commit_receipts()
    assert not Uncommitted.objects.exists()
    own = list(Receipt.objects.filter(subject=job_id).order_by("seq").values_list("nid", "event_type"))
    committed = Commit.objects.filter(receipt__subject=job_id)
    turn_until(lambda: committed.filter(transaction__state=TransactionState.FINAL).count() == len(own))

    found = find_commits(
        node(), register=settings.REGISTER_ADDRESS, asset_cid=own[0][0], recorder=sender_signer().address
    )
    told = [json.loads(commit.commit_data) for commit in found]
    assert [(item["nid"], item["eventType"]) for item in told] == own
    assert {item["log"] for item in told} == {log_head().nid}
    assert Commit.objects.filter(receipt__isnull=False).count() == len(own)  # the public's receipts are the anchors'
    gas = [int(each) for each in committed.values_list("transaction__gas_used", flat=True) if each is not None]
    with capsys.disabled():
        print(f"\n{len(own)} receipts of one job: {sum(gas):,} gas, {min(gas):,} to {max(gas):,} each")
    turn_until(lambda: JobPage(Job.objects.get(pk=job_id)).settled)
