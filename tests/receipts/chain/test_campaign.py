"""Whatever an adversary does to the chain and to the way there, each intent stands on it exactly once, below the cap.

Three scripts by default, two hundred and more in the full campaign (TALLYSTICK_TEST_FULL=1).
"""

import json
import os
from collections import Counter
from typing import Any

import pytest
from pytest_django import Settings

from receipts.chain.rlp import decode_raw_transaction
from receipts.committers.evm import EvmCommitter, find_commits, renew_replaced
from receipts.models import ChainTransaction, TransactionHash
from tests.receipts.chain.conftest import House
from tests.receipts.chain.node import Node
from tests.receipts.chain.script import GWEI, Script, scripted

pytestmark = pytest.mark.chain
FULL = bool(os.environ.get("TALLYSTICK_TEST_FULL"))
FIRST = int(os.environ.get("TALLYSTICK_TEST_SEED", "0"))
SCRIPTS = range(FIRST, FIRST + (240 if FULL else 3))
CAP_GWEI = 120
REGISTER_AT = "0x" + "7e" * 20
ASSETS = 3
totals: Counter[str] = Counter()


@pytest.mark.parametrize("seed", SCRIPTS)
def test_the_chain_holds_each_commit_once(house: House, settings: Settings, seed: int) -> None:
    script = Script(seed)
    settings.CONFIRMATIONS = script.confirmations
    settings.CHAIN_FEE_CAP_GWEI = CAP_GWEI
    house.node.put_register(REGISTER_AT)
    house.node.mine(30)
    wanted = Counter(wish(number) for number in range(script.wishes))
    with scripted(house.node, script) as rpc:
        for _ in range(script.turns):
            settings.CHAIN_FEE_BUMP_SECONDS = 0 if script.between_turns(house.node, pool(house.node)) else 3600
            house.turn(rpc)
            renew_replaced()
        script.calm = True
        settings.CHAIN_FEE_BUMP_SECONDS = 0  # what a lie left behind is mended without waiting
        house.node.ask("anvil_setNextBlockBaseFeePerGas", hex(GWEI))
        house.until(lambda: settled() and on_chain(house.node) == wanted, rpc, turns=120)
    assert ours_on_chain(house) <= CAP_GWEI * GWEI
    assert max(decode_raw_transaction(bytes(form.raw)).max_fee for form in TransactionHash.objects.all()) <= (
        CAP_GWEI * GWEI
    )
    assert house.node.nonce(house.sender.address) == ChainTransaction.objects.filter(nonce__isnull=False).count()
    totals.update(script.counts + Counter(scripts=1, commits=script.wishes))


def test_what_the_scripts_did_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with capsys.disabled():
        print(f"\nadversarial scripts: {dict(sorted(totals.items()))}")
    assert totals["scripts"] == len(SCRIPTS)
    assert totals["commits"] > len(SCRIPTS)


def wish(number: int) -> tuple[str, str]:
    """Intend one commit; several stand on one asset."""
    asset, data = f"asset-{number % ASSETS}", json.dumps({"number": number})
    EvmCommitter(REGISTER_AT).commit(asset_cid=asset, commit_data=data, key=f"commit:{number}")
    return asset, data


def settled() -> bool:
    """Tell whether every intent came to its end, and none to a bad one."""
    return set(ChainTransaction.objects.values_list("state", flat=True)) == {"final"}


def on_chain(node: Node) -> Counter[tuple[str, str]]:
    """Count what the register holds."""
    rpc = node.rpc()
    return Counter(
        (asset, found.commit_data)
        for asset in (f"asset-{number}" for number in range(ASSETS))
        for found in find_commits(rpc, register=REGISTER_AT, asset_cid=asset)
    )


def ours_on_chain(house: House) -> int:
    """Give the highest price that was paid for a unit of gas."""
    receipts: list[Any] = [
        house.node.ask("eth_getTransactionReceipt", name)
        for name in ChainTransaction.objects.values_list("hash", flat=True)
    ]
    return max(int(receipt["effectiveGasPrice"], 16) for receipt in receipts)


def pool(node: Node) -> list[str]:
    """List the hashes that wait in the node's pool."""
    content = node.ask("txpool_content")
    return [item["hash"] for kind in content.values() for rows in kind.values() for item in rows.values()]
