"""Put contracts on a chain, each once: through the same sender, so that a crash in the middle goes on where it was.

A deployment is an intent like any other. The contract's address follows from the sender and the nonce, and is known
before the chain has heard of it.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from django.conf import settings
from django.db import transaction

from receipts.chain.client import ChainError, Request, Rpc, RpcRefused
from receipts.chain.sender import SenderReport, intend, node, turn
from receipts.models import ChainTransaction
from receipts.models.transactions import TransactionState

Progress = Callable[[str], None]

REGISTER_ARTIFACT: Final = Path(__file__).parent.parent / "contracts" / "CommitRegister.json"
DEADLINE_SECONDS: Final = 180.0
_PAUSE_SECONDS: Final = 0.2
# PUSH0 PUSH0 PUSH0 MCOPY PUSH0 PUSH0 RETURN: empty code where MCOPY exists, an invalid opcode before Cancun.
_CANCUN_PROBE: Final = "0x5f5f5f5e5f5ff3"


class NotDeployed(ChainError):
    """A contract could not be put on the chain, or what stands there is not ours."""


@dataclass(frozen=True, slots=True)
class Artifact:
    """A compiled contract, as `tests/contracts/compile.mjs` writes it."""

    name: str
    abi: Sequence[Mapping[str, Any]]
    bytecode: bytes
    deployed: bytes
    immutables: Sequence[tuple[int, int]]

    def matches(self, code: bytes) -> bool:
        """Tell whether `code` on a chain is this contract, whatever its constructor filled in."""
        return len(code) == len(self.deployed) and self._blank(code) == self._blank(self.deployed)

    def _blank(self, code: bytes) -> bytes:
        blank = bytearray(code)
        for start, length in self.immutables:
            blank[start : start + length] = bytes(length)
        return bytes(blank)


@cache
def load_artifact(path: Path) -> Artifact:
    """Read a compiled contract that lies beside its source."""
    value = json.loads(path.read_text())
    return Artifact(
        name=value["contract"],
        abi=value["abi"],
        bytecode=bytes.fromhex(value["bytecode"][2:]),
        deployed=bytes.fromhex(value["deployed_bytecode"][2:]),
        immutables=[(start, length) for start, length in value["immutables"]],
    )


def deploy_register(*, progress: Progress | None = None, rpc: Rpc | None = None) -> str:
    """Deploy the commit register unless it stands, wait until it is final, and give its address.

    Raises: ChainError, NotDeployed.
    """
    rpc = rpc or node()
    require_cancun(rpc)
    artifact = load_artifact(REGISTER_ARTIFACT)
    with transaction.atomic():
        wish = intend_deployment(artifact, [])
    settle([wish], progress=progress, rpc=rpc)
    return require_code(rpc, artifact, address_of(wish, rpc=rpc))


def intend_deployment(artifact: Artifact, args: Sequence[Any], *, label: str = "") -> ChainTransaction:
    """Write down a deployment, one for each chain and label."""
    return intend(
        purpose=ChainTransaction.Purpose.DEPLOY,
        key=f"deploy:{settings.CHAIN_ID}:{label or artifact.name}",
        to="",
        data=creation(artifact, args),
    )


def creation(artifact: Artifact, args: Sequence[Any]) -> bytes:
    """Encode what creates the contract: its bytecode and the constructor's arguments."""
    contract = _contract(artifact)
    return bytes.fromhex(contract.constructor(*args).data_in_transaction[2:])


def call_data(artifact: Artifact, name: str, args: Sequence[Any]) -> bytes:
    """Encode a call by the artifact's own ABI. For rare calls: it takes web3 a second to load."""
    return bytes.fromhex(_contract(artifact).encode_abi(name, args=list(args))[2:])


def address_of(wish: ChainTransaction, *, rpc: Rpc) -> str:
    """Give the address that a deployment leads to, as soon as it has its nonce.

    Raises: NotDeployed, with the reason why the queue waits.
    """
    until = time.monotonic() + DEADLINE_SECONDS
    while True:
        wish.refresh_from_db()
        if wish.contract_address:
            return wish.contract_address
        report = turn(rpc=rpc)
        _require_hope(wish, until, report.waiting_reason)
        _pause(report)


def settle(
    wishes: Sequence[ChainTransaction],
    *,
    progress: Progress | None = None,
    rpc: Rpc | None = None,
    deadline_seconds: float | None = None,
) -> None:
    """Drive the sender until all of these are final.

    Raises: NotDeployed, when one fails, or when the time is over: then with the reason why the queue waits.
    """
    until = time.monotonic() + (DEADLINE_SECONDS if deadline_seconds is None else deadline_seconds)
    told: dict[int, str] = {}
    while True:
        report = turn(rpc=rpc)
        for wish in wishes:
            wish.refresh_from_db()
            if progress and told.get(wish.pk) != wish.state:
                told[wish.pk] = wish.state
                progress(f"{wish.key}: {wish.state}")
        open_ones = [wish for wish in wishes if wish.state != TransactionState.FINAL]
        if not open_ones:
            return
        for wish in open_ones:
            _require_hope(wish, until, report.waiting_reason)
        _pause(report)


def require_cancun(rpc: Rpc) -> None:
    """Insist that the chain runs Cancun: older ones would burn all the gas of a deployment in silence.

    Raises: NotDeployed, WrongChain.
    """
    rpc.require_chain(settings.CHAIN_ID)
    [answer] = rpc.try_many([Request("eth_call", [{"data": _CANCUN_PROBE}, "latest"])])
    if isinstance(answer, RpcRefused):
        raise NotDeployed(f"the chain is older than Cancun, which the contracts are compiled for: {answer}")


def require_code(rpc: Rpc, artifact: Artifact, address: str) -> str:
    """Insist that this very contract stands at `address`, and give the address back.

    Raises: NotDeployed.
    """
    code = bytes.fromhex(str(rpc.read("eth_getCode", address, "latest")).removeprefix("0x"))
    if not artifact.matches(code):
        raise NotDeployed(f"what stands at {address} is not {artifact.name}: {len(code)} bytes of code")
    return address


def _pause(report: SenderReport) -> None:
    """Wait a little where nothing moved: blocks take a second or more, another turn at once would only ask again."""
    if not report.moved:
        time.sleep(_PAUSE_SECONDS)


def _require_hope(wish: ChainTransaction, until: float, waiting_reason: str) -> None:
    if wish.state in (TransactionState.FAILED, TransactionState.REPLACED):
        raise NotDeployed(f"{wish.key} {wish.state}: {wish.reason}")
    if time.monotonic() > until:
        raise NotDeployed(f"{wish.key} is still {wish.state}: {waiting_reason or wish.reason or 'the chain is slow'}")


def _contract(artifact: Artifact) -> Any:
    from web3 import Web3  # a second and 60 MB, for something that is done once

    return Web3().eth.contract(abi=list(artifact.abi), bytecode=artifact.bytecode)
