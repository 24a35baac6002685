"""Speak JSON-RPC to a node: every refusal as a typed error, nothing sent twice by accident.

Reads are repeated a few times, with jitter. A raw transaction is sent once for each call: whether it arrived is
found out by its hash, never by the answer.
"""

import json
import random
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

import requests

READ_TRIES: Final = 3
_FIRST_PAUSE_SECONDS: Final = 0.1
_MAX_ANSWER_BYTES: Final = 32 * 1024 * 1024
_LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})
_THROTTLED: Final = -32005  # "limit exceeded", EIP-1474
_BUSY_STATUSES: Final = frozenset({408, 425, 429, 500, 502, 503, 504})


class ChainError(Exception):
    """The chain can't be asked, or says no. `may_retry` tells whether the same request may succeed later."""

    may_retry = False


class RpcUnreachable(ChainError):
    """No answer that can be read: refused, timed out, throttled, or not JSON-RPC. A send may have arrived."""

    may_retry = True


class WrongChain(ChainError):
    """The node serves another chain than the one that was asked for."""

    may_retry = True

    def __init__(self, expected: int, found: int) -> None:
        super().__init__(f"the node serves chain {found}, {expected} is due")
        self.expected = expected
        self.found = found


class RpcRefused(ChainError):
    """The node answered with an error that is none of the known ones."""

    def __init__(self, code: int, message: str, data: str = "") -> None:
        super().__init__(f"{message} ({code})" if message else f"error {code}")
        self.code = code
        self.message = message
        self.data = data


class AlreadyKnown(RpcRefused):
    """The node has this very transaction: a success."""


class NonceTooLow(RpcRefused):
    """Something with this nonce was mined; perhaps an earlier form of the same transaction."""


class Underpriced(RpcRefused):
    """A transaction with this nonce is pending already and this one does not pay enough more."""

    may_retry = True


class FeeBelowBase(RpcRefused):
    """The fee is below what the next block asks for."""

    may_retry = True


class NoFunds(RpcRefused):
    """The sender can't pay for value and gas."""

    may_retry = True


class InvalidChainId(RpcRefused):
    """The transaction was signed for another chain."""


class NeverValid(RpcRefused):
    """No node will ever take these bytes: too little gas, too much gas, too large."""


class CallReverted(RpcRefused):
    """The contract would revert. `data` is its error, selector first."""


# What nodes say, in lower case: anvil | geth, subnet-evm. The first match counts.
_REFUSALS: Final[tuple[tuple[str, type[RpcRefused]], ...]] = (
    ("already imported", AlreadyKnown),
    ("already known", AlreadyKnown),
    ("known transaction", AlreadyKnown),
    ("nonce too low", NonceTooLow),
    ("replacement transaction underpriced", Underpriced),
    ("transaction underpriced", Underpriced),
    ("max fee per gas less than block base fee", FeeBelowBase),
    ("less than block base fee", FeeBelowBase),
    ("insufficient funds", NoFunds),
    ("invalid chain id", InvalidChainId),
    ("intrinsic gas too low", NeverValid),
    ("exceeds block gas limit", NeverValid),
    ("oversized data", NeverValid),
    ("gas limit too high", NeverValid),
    ("revert", CallReverted),
)


class Request(NamedTuple):
    """One JSON-RPC call."""

    method: str
    params: Sequence[Any] = ()


class Rpc:
    """A node, by its URL. Not shared between threads.

    Raises, from every method: RpcUnreachable; RpcRefused or one of its kinds.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout_seconds: float = 10.0,
        sleep: Callable[[float], None] = time.sleep,
        session: requests.Session | None = None,
    ) -> None:
        self._url = url
        self._timeout = timeout_seconds
        self._sleep = sleep
        self._session = session or requests.Session()
        if urlsplit(url).hostname in _LOOPBACK:
            self._session.trust_env = False  # no proxy of the environment stands between us and this machine
        self._id = 0

    def read(self, method: str, *params: Any) -> Any:
        """Ask something that changes nothing, up to three times."""
        return self.read_many([Request(method, params)])[0]

    def read_many(self, wanted: Sequence[Request]) -> list[Any]:
        """Ask several things in one request. The first refusal among the answers is raised."""
        answers = self._asking_again(wanted)
        for answer in answers:
            if isinstance(answer, RpcRefused):
                raise answer
        return answers

    def try_many(self, wanted: Sequence[Request]) -> list[Any]:
        """Ask several things in one request; a refusal stands in the place of its answer."""
        return self._asking_again(wanted)

    def send_raw(self, raws: Sequence[bytes]) -> list[str | RpcRefused]:
        """Broadcast signed transactions in one request, once. A refusal stands in the place of its hash."""
        return self._post([Request("eth_sendRawTransaction", ["0x" + raw.hex()]) for raw in raws])

    def chain_id(self) -> int:
        """Ask which chain this is."""
        return quantity(self.read("eth_chainId"))

    def require_chain(self, expected: int) -> None:
        """Insist on the chain id.

        Raises: WrongChain.
        """
        found = self.chain_id()
        if found != expected:
            raise WrongChain(expected, found)

    def _asking_again(self, wanted: Sequence[Request]) -> list[Any]:
        pause = _FIRST_PAUSE_SECONDS
        for _ in range(READ_TRIES - 1):
            try:
                return self._post(wanted)
            except RpcUnreachable:
                # Jitter, so that a fleet that lost the node together does not come back together.
                self._sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311
                pause *= 4
        return self._post(wanted)

    def _post(self, wanted: Sequence[Request]) -> list[Any]:
        if not wanted:
            return []
        first = self._id + 1
        self._id += len(wanted)
        body = [
            {"jsonrpc": "2.0", "id": first + index, "method": request.method, "params": list(request.params)}
            for index, request in enumerate(wanted)
        ]
        answers = self._exchange(body)
        by_id = {answer.get("id"): answer for answer in answers if isinstance(answer, dict)}
        return [_read_answer(by_id.get(first + index)) for index in range(len(wanted))]

    def _exchange(self, body: list[dict[str, Any]]) -> list[Any]:
        try:
            response = self._session.post(self._url, json=body, timeout=self._timeout, stream=True)
            with response:
                if response.status_code in _BUSY_STATUSES:
                    raise RpcUnreachable(f"the node answers with HTTP {response.status_code}")
                content = response.raw.read(_MAX_ANSWER_BYTES + 1, decode_content=True)
                if len(content) > _MAX_ANSWER_BYTES:
                    raise RpcUnreachable(f"the node's answer is longer than {_MAX_ANSWER_BYTES} bytes")
                answers = json.loads(content)
        except requests.ConnectionError:
            # Its text names hosts, ports and objects; who operates the house knows its own URL.
            raise RpcUnreachable("the node can't be reached") from None
        except requests.Timeout:
            raise RpcUnreachable(f"the node did not answer within {self._timeout:g} s") from None
        except (requests.RequestException, ValueError, OSError):
            raise RpcUnreachable("the node's answer is not JSON-RPC") from None
        if isinstance(answers, dict) and "error" in answers:
            answers = [{**answers, "id": item["id"]} for item in body]  # some nodes refuse a batch with one answer
        if not isinstance(answers, list):
            raise RpcUnreachable("the node's answer is not JSON-RPC")
        return answers


def quantity(value: Any) -> int:
    """Read a hexadecimal number from a node.

    Raises: RpcUnreachable.
    """
    try:
        return int(value, 16)
    except (TypeError, ValueError):
        raise RpcUnreachable(f"the node gave {str(value)[:40]!r} where a number is due") from None


def _read_answer(answer: Any) -> Any:
    if not isinstance(answer, dict):
        raise RpcUnreachable("the node left a request without an answer")
    error = answer.get("error")
    if error is None:
        return answer.get("result")
    if not isinstance(error, dict):
        return RpcRefused(0, str(error)[:300])
    message = str(error.get("message", ""))[:300]
    data = error.get("data")
    code = error.get("code")
    if code == _THROTTLED:
        raise RpcUnreachable(f"the node throttles: {message}")
    return _refusal(code if isinstance(code, int) else 0, message, data if isinstance(data, str) else "")


def _refusal(code: int, message: str, data: str) -> RpcRefused:
    said = message.lower()
    for words, kind in _REFUSALS:
        if words in said:
            return kind(code, message, data)
    return RpcRefused(code, message, data)
