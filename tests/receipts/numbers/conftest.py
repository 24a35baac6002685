"""A house that commits on Numbers Protocol, with the stand-in in the place of the service and its chain."""

import datetime as dt
import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from django.db import transaction
from pytest_django import Settings

from receipts import log
from receipts.canonical import b64url, decode
from receipts.committers import numbers
from receipts.committers.capture import Capture
from receipts.committers.numbers import NumbersReport
from receipts.keys import Secp256k1Signer, make_key_file
from receipts.models import NumbersOrder, Receipt, Tenant
from receipts.record import Recorded, record
from tests.receipts.chain.node import Node, running_node
from tests.receipts.examples import CHAIN, OTHER_ENDS, SUBMITTED
from tests.receipts.numbers.standin import TOKEN, Service, running_service

SECRET = b"\x44" * 32
CLIENT = b64url(bytes(range(32)))
MAINNET, TESTNET = 10507, 10508
EXAMPLES = {event: data for event, data, _ in CHAIN} | dict(OTHER_ENDS) | {"JobSubmitted": decode(SUBMITTED)["data"]}


@pytest.fixture(scope="module")
def numbers_node() -> Iterator[Node]:
    """Run a node with the chain id of Numbers' main network: only here, on this machine, is that allowed."""
    with running_node(chain_id=MAINNET) as running:
        yield running


@pytest.fixture
def service(numbers_node: Node) -> Iterator[Service]:
    """Run the service over a register of its own."""
    with running_service(numbers_node) as running:
        yield running


@pytest.fixture
def capture(service: Service) -> Iterator[Capture]:
    """Give Ada's client of the service."""
    yield client_of(service)


def client_of(service: Service, token: str = TOKEN, **options: Any) -> Capture:
    """Give a client that does not wait between its tries."""
    return Capture(service.endpoints(), token, sleep=lambda _: None, **{"timeout_seconds": 10, **options})


@dataclass
class House:
    """Ada's house: jobs in the log, orders on Numbers Protocol."""

    service: Service
    signer: Secp256k1Signer
    settings: Settings
    counter: Iterator[int]

    def job(self, *events: str, origin: str = "hosted", tenant: str = "ada") -> list[Recorded]:
        """Let a job happen: JobSubmitted, then these events; all of it gets its leaves."""
        subject = f"job_{next(self.counter):026d}"
        told = [self.tell(subject, "JobSubmitted", origin=origin, tenant=tenant)]
        told += [self.tell(subject, event, origin=origin, tenant=tenant) for event in events]
        log.turn()
        return told

    def tell(self, subject: str, event: str, *, origin: str = "hosted", tenant: str = "ada") -> Recorded:
        """Write one receipt of a job."""
        with transaction.atomic():
            return record(
                event_type=event,
                subject=subject,
                tenant_id=tenant,
                actor=f"client:{CLIENT}",
                data=EXAMPLES[event],
                attempt=0 if event == "JobSubmitted" else 1,
                origin=origin,
                first=event == "JobSubmitted",
                occurred_at=dt.datetime(2026, 11, 21, 7, 0, tzinfo=dt.UTC) if event == "JobSubmitted" else None,
            )

    def turn(self, times: int = 1, **options: Any) -> NumbersReport:
        """Take turns at once: what backs off is looked at without waiting."""
        for _ in range(times):
            NumbersOrder.objects.update(due_at=dt.datetime(2026, 1, 1, tzinfo=dt.UTC))
            report = numbers.turn(**options)
        return report

    def until_settled(self, *, turns: int = 60) -> int:
        """Take turns until nothing is left to do; give how many it took."""
        for taken in range(turns):
            if taken and not numbers.unsettled(NumbersOrder.objects.all()).exists():
                return taken
            self.turn()
        raise AssertionError(f"not settled after {turns} turns: {self.told()}")

    def states(self) -> list[str]:
        """Give the states of all orders, in the order of their intents."""
        return list(NumbersOrder.objects.order_by("id").values_list("state", flat=True))

    def told(self) -> list[tuple[str, str, str, str]]:
        """Tell how every order stands, for who has to find out why."""
        rows = NumbersOrder.objects.order_by("id").values_list("state", "reason", "verdict", "verdict_detail")
        return [(state, reason, verdict, detail) for state, reason, verdict, detail in rows]

    def order_workflow(self) -> str:
        """Name the workflow of the first registration."""
        return NumbersOrder.objects.earliest("id").workflow_id

    def order(self, receipt: Recorded) -> NumbersOrder:
        """Find the order of a receipt."""
        return NumbersOrder.objects.get(receipt=Receipt.objects.get(nid=receipt.nid))


@pytest.fixture
def full() -> bool:
    """Tell whether campaigns run in full."""
    return os.environ.get("TALLYSTICK_TEST_FULL") == "1"


@pytest.fixture
def house(service: Service, settings: Settings, tmp_path: Path, db: None, monkeypatch: pytest.MonkeyPatch) -> House:
    """Found a log, point the house at the stand-in and turn the main network on, there and nowhere else."""
    settings.KEYS_DIR, settings.TLOG_DIR = tmp_path / "keys", tmp_path / "tlog"
    settings.CHECKPOINT_SECONDS = 0
    make_key_file(settings.KEYS_DIR / "log.key", "ed25519")
    monkeypatch.setenv("TALLYSTICK_KEY_SENDER", f"secp256k1:0x{SECRET.hex()}")
    log.found_log("example.org/tally")
    for name in ("ada", "mallory"):
        Tenant.objects.create(id=name, name=name.title())
    settings.NUMBERS_NETWORK = "mainnet"
    settings.NUMBERS_RPC_URL = service.node.url
    settings.NUMBERS_REGISTER_ADDRESS = service.register
    settings.NUMBERS_SETTLE_SECONDS = 0
    settings.CAPTURE_TOKEN = TOKEN
    settings.CAPTURE_TIMEOUT_SECONDS = 5
    at = service.endpoints()
    settings.CAPTURE_API_URL, settings.CAPTURE_COMMIT_URL = at.api, at.commit
    settings.CAPTURE_HISTORY_URL, settings.CAPTURE_TREE_URL = at.history, at.tree
    monkeypatch.setattr(
        "receipts.committers.numbers.service", lambda on: client_of(service, testnet=on.name == "testnet")
    )
    house = House(service, Secp256k1Signer(SECRET), settings, itertools.count(1))
    assert house.turn().taken == 0  # from here on the log is read
    return house
