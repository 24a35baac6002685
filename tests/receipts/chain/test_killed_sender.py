"""A sender that is killed at any moment sends no second transaction for an intent and loses none.

The real sender in a process of its own, killed by SIGKILL: at a request of the seed's choosing, before or after the
node heard of it, or after some time, wherever it was. Three deaths by default, a hundred and twenty in the full
campaign (TALLYSTICK_TEST_FULL=1).
"""

import json
import os
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import pytest
import requests
from django.db import connection
from pytest_django import Settings

from receipts.commits import commit_receipts
from receipts.committers.evm import EvmCommitter
from receipts.models import ChainTransaction, TransactionHash
from tests.receipts.chain.conftest import SENDER_SECRET, House
from tests.receipts.chain.node import Node, serving
from tests.receipts.chain.test_campaign import REGISTER_AT, on_chain, settled

pytestmark = [pytest.mark.chain, pytest.mark.django_db(transaction=True)]
FULL = bool(os.environ.get("TALLYSTICK_TEST_FULL"))
DEATHS = 120 if FULL else 3
ROOT = Path(__file__).parent.parent.parent.parent
COMMITS_A_LIFE = 2
# What the hub's worker does each second, without the second.
LIVE = """
import django
django.setup()
from receipts.chain import sender
while True:
    sender.turn()
"""


class Reaper:
    """Kills the living sender at its hour; the node mines on at each of its requests."""

    def __init__(self, node: Node, dice: random.Random) -> None:
        self.node = node
        self.dice = dice
        self.counts: Counter[str] = Counter()
        self.left, self.after = 0, False
        self.living: subprocess.Popen[bytes] | None = None
        self.died = threading.Event()
        self._lock = threading.Lock()

    def choose(self, living: "subprocess.Popen[bytes]") -> None:
        """Choose how many requests this one may make."""
        self.died.clear()
        self.left, self.after = self.dice.randint(1, 14), self.dice.random() < 0.5
        self.living = living

    def batch(self, body: bytes) -> tuple[int, bytes] | None:
        """Pass a request on, slowly, unless it is the last one."""
        self.left -= 1
        last = self.left == 0
        if last and not self.after:
            self.kill("before a request")
            return None
        self.died.wait(0.01)
        items = json.loads(body)
        answers: Any = requests.post(self.node.url, json=items, timeout=10).json()
        if any(item["method"] == "eth_sendRawTransaction" for item in items):
            self.counts["broadcasts"] += 1
        if self.dice.random() < 0.2:
            self.node.mine()
        if last:
            self.kill("after a request")
            return None
        return 200, json.dumps(answers).encode()

    def kill(self, when: str) -> None:
        """Kill the living one, once."""
        with self._lock:
            if self.living is None or self.died.is_set():
                return
            self.living.kill()
            self.counts[f"killed {when}"] += 1
            self.died.set()


@contextmanager
def living_sender(url: str) -> Iterator["subprocess.Popen[bytes]"]:
    """Run the sender on the test's database, with the node at `url`."""
    database = urlsplit(os.environ["DATABASE_URL"])._replace(path=f"/{connection.settings_dict['NAME']}")
    made = os.environ | {
        "DJANGO_SETTINGS_MODULE": "config.settings",
        "DATABASE_URL": urlunsplit(database),
        "CHAIN_RPC_URL": url,
        "CHAIN_ID": "31337",
        "CONFIRMATIONS": "3",
        "CHAIN_FEE_BUMP_SECONDS": "3600",
        "TALLYSTICK_KEY_SENDER": f"secp256k1:0x{SENDER_SECRET.hex()}",
        "LOG_LEVEL": "CRITICAL",
    }
    process = subprocess.Popen([sys.executable, "-c", LIVE], env=made, cwd=ROOT, stderr=subprocess.PIPE)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        assert process.stderr is not None
        process.stderr.close()


def test_a_killed_sender_sends_nothing_twice_and_loses_nothing(
    house: House, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    house.node.put_register(REGISTER_AT)
    dice = random.Random(11)
    reaper = Reaper(house.node, dice)
    wanted: Counter[tuple[str, str]] = Counter()
    with serving(reaper.batch) as url:
        for life in range(DEATHS):
            for _ in range(COMMITS_A_LIFE):
                wanted.update([wish(len(wanted))])
            with living_sender(url) as living:
                reaper.choose(living)
                if life % 3 == 2:
                    # Not at a request but wherever it is: in a statement, between two, or still starting.
                    first = reaper.left
                    while reaper.left == first and not reaper.died.is_set() and living.poll() is None:
                        time.sleep(0.002)
                    assert living.poll() is None or reaper.died.is_set(), told(living)
                    time.sleep(dice.random() * 0.15)
                    reaper.kill("by the clock")
                else:
                    assert reaper.died.wait(60), told(living)
    house.until(lambda: settled() and on_chain(house.node) == wanted, turns=60 + DEATHS * COMMITS_A_LIFE)
    assert commit_receipts() == 0
    assert house.node.nonce(house.sender.address) == ChainTransaction.objects.count() == len(wanted)
    # One signed form each: no death made the sender sign anew what it had signed.
    assert TransactionHash.objects.count() == len(wanted)
    assert sum(count for name, count in reaper.counts.items() if name.startswith("killed")) == DEATHS
    with capsys.disabled():
        print(f"\n{DEATHS} deaths, {len(wanted)} commits: {dict(sorted(reaper.counts.items()))}")


def told(living: "subprocess.Popen[bytes]") -> str:
    """What a sender said that ended by itself."""
    living.kill()
    return living.communicate()[1].decode()


def wish(number: int) -> tuple[str, str]:
    """Intend one commit."""
    asset, data = f"asset-{number % 3}", json.dumps({"number": number})
    EvmCommitter(REGISTER_AT).commit(asset_cid=asset, commit_data=data, key=f"commit:{number}")
    return asset, data
