"""Contracts on a node of their own, called through web3's codec, which is not ours."""

import functools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests
from web3 import Web3

from receipts.chain.deploy import Artifact, load_artifact
from tests.receipts.chain.node import ETHER, Node, running_node

ROOT = Path(__file__).parent.parent.parent
ADA, BO, CY, MALLORY = ("0x" + name * 20 for name in ("ad", "b0", "c1", "e1"))
HOUSE = "0x" + "a1" * 20


class Reverted(Exception):
    """The contract said no: `error` is its selector's name, or the raw data."""

    def __init__(self, error: str) -> None:
        super().__init__(error)
        self.error = error


@functools.cache
def artifact(path: str) -> Artifact:
    """Read a committed artifact."""
    return load_artifact(ROOT / path)


REGISTER = "receipts/contracts/CommitRegister.json"
TOKEN = "minting/contracts/AIToken.json"
MINTER = "minting/contracts/AITokenMinter.json"


@dataclass
class Deployed:
    """A contract that stands on the bench."""

    bench: "Bench"
    address: str
    artifact: Artifact
    gas: int
    codec: Any = field(init=False)

    def __post_init__(self) -> None:
        self.codec = Web3().eth.contract(address=Web3.to_checksum_address(self.address), abi=list(self.artifact.abi))

    def send(self, who: str, name: str, *args: Any) -> dict[str, Any]:
        """Call as a transaction and give its receipt. Raises: Reverted."""
        return self.bench.send(who, self.address, self.codec.encode_abi(name, args=list(args)), self.artifact)

    def ask(self, name: str, *args: Any) -> Any:
        """Call without a transaction and give the one value."""
        answer = self.bench.node.ask(
            "eth_call", {"to": self.address, "data": self.codec.encode_abi(name, args=list(args))}, "latest"
        )
        function = self.codec.get_function_by_name(name)
        types = [output["type"] for output in function.abi["outputs"]]
        [value] = Web3().codec.decode(types, bytes.fromhex(answer[2:]))
        return value

    def events(self, receipt: dict[str, Any], name: str) -> list[dict[str, Any]]:
        """Read the events of a name out of a receipt, as web3 decodes them."""
        wanted = self.codec.events[name]
        topic = wanted().topic
        logs = [log for log in receipt["logs"] if log["topics"][0] == topic and log["address"] == self.address]
        return [dict(wanted().process_log(_as_web3(log))["args"]) for log in logs]


@dataclass
class Bench:
    """A node whose accounts all act without signatures."""

    node: Node

    def deploy(self, path: str, *args: Any, who: str = HOUSE) -> Deployed:
        """Deploy a committed artifact."""
        made = artifact(path)
        contract = Web3().eth.contract(abi=list(made.abi), bytecode=made.bytecode)
        data = contract.constructor(*args).data_in_transaction
        receipt = self.send(who, None, data, made)
        return Deployed(self, receipt["contractAddress"], made, int(receipt["gasUsed"], 16))

    def send(self, who: str, to: str | None, data: str, made: Artifact) -> dict[str, Any]:
        """Send a transaction, mine it, and give its receipt. Raises: Reverted."""
        call = {"from": who, "data": data, "gas": hex(10_000_000)} | ({"to": to} if to else {})
        self._require_success(call, made)
        name = self.node.ask("eth_sendTransaction", call)
        self.node.mine()
        receipt: dict[str, Any] = self.node.ask("eth_getTransactionReceipt", name)
        assert receipt["status"] == "0x1"
        return receipt

    def _require_success(self, call: dict[str, str], made: Artifact) -> None:
        body = {"jsonrpc": "2.0", "id": 1, "method": "eth_call", "params": [call, "latest"]}
        error = requests.post(self.node.url, json=body, timeout=10).json().get("error")
        if error is not None:
            raise Reverted(_name_of(error.get("data") or error["message"], made))

    def now(self) -> int:
        """Give the newest block's time."""
        return int(self.node.ask("eth_getBlockByNumber", "latest", False)["timestamp"], 16)

    @contextmanager
    def undone(self) -> Iterator[None]:
        """Undo afterwards what happens inside."""
        mark = self.node.ask("evm_snapshot")
        yield
        assert self.node.ask("evm_revert", mark)


@contextmanager
def running_bench(*funded: str) -> Iterator[Bench]:
    """Run a bench."""
    with running_node() as node:
        node.ask("anvil_autoImpersonateAccount", True)
        for account in (HOUSE, ADA, BO, CY, MALLORY, *funded):
            node.fund(account, 1000 * ETHER)
        yield Bench(node)


def gas(receipt: dict[str, Any]) -> int:
    """Give the gas that a transaction used."""
    return int(receipt["gasUsed"], 16)


def _name_of(data: str, *artifacts: Artifact) -> str:
    known: Sequence[Any] = [*artifact(TOKEN).abi, *artifact(MINTER).abi, *(item for a in artifacts for item in a.abi)]
    for item in known:
        if item["type"] == "error":
            signature = f"{item['name']}({','.join(each['type'] for each in item['inputs'])})"
            if data.startswith("0x" + Web3.keccak(text=signature)[:4].hex()):
                return str(item["name"])
    return data


def _as_web3(log: dict[str, Any]) -> Any:
    numbers = ("blockNumber", "logIndex", "transactionIndex")
    return {
        **log,
        **{name: int(log[name], 16) for name in numbers},
        "address": Web3.to_checksum_address(log["address"]),
        "topics": [bytes.fromhex(topic[2:]) for topic in log["topics"]],
        "data": bytes.fromhex(log["data"][2:]),
        "blockHash": bytes.fromhex(log["blockHash"][2:]),
        "transactionHash": bytes.fromhex(log["transactionHash"][2:]),
    }
