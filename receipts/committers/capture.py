"""Speak the Capture API of Numbers Protocol: every refusal as a typed error, nothing sent twice by accident.

Reads are repeated a few times, with jitter. A registration, an update or a commit is sent once for each call: the
service knows no idempotency key, so whether one took effect is found out by its history, never assumed.

The token goes into one header and nowhere else: not into an error, a log line or a redirect, of which none is followed.
"""

import json
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal
from urllib.parse import quote, urlsplit

import requests
import urllib3
from requests.auth import AuthBase

from receipts.committers.nit import read_json

READ_TRIES: Final = 3
MAX_ANSWER_BYTES: Final = 1024 * 1024
MAX_HEADLINE: Final = 25
_FIRST_PAUSE_SECONDS: Final = 0.2
_CONNECT_SECONDS: Final = 5.0
_PIECE: Final = 64 * 1024
_LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})
_SHOWN: Final = 200


class CaptureError(Exception):
    """The service can't be asked, or says no.

    `may_retry`: the same request may succeed later. `changed_nothing`: it surely took no effect.
    `stops_all`: what is wrong is not this request's fault, and would meet the next one too.
    """

    may_retry = False
    changed_nothing = True
    stops_all = False


class NotReached(CaptureError):
    """No connection came about: nothing was sent."""

    may_retry = True
    stops_all = True


class NoAnswer(CaptureError):
    """A request went out, and no answer came back that can be read. It may have taken effect."""

    may_retry = True
    changed_nothing = False
    stops_all = True


class Throttled(CaptureError):
    """Too many requests; the service took none of this one."""

    may_retry = True
    stops_all = True


class Unauthorised(CaptureError):
    """The token is missing, wrong or revoked."""

    may_retry = True
    stops_all = True


class InsufficientFunds(CaptureError):
    """The account has not enough NUM for the commit and its gas."""

    may_retry = True
    stops_all = True


class NotOwner(CaptureError):
    """The asset is another account's."""


class NoSuchAsset(CaptureError):
    """The service knows nothing by this name, or not yet."""

    may_retry = True


class Refused(CaptureError):
    """The service refuses this request as it stands."""


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Where the service is: four hosts of one house."""

    api: str
    commit: str
    history: str
    tree: str


@dataclass(frozen=True, slots=True)
class Asset:
    """An asset as the service tells it. `custom` is what was registered as `nit_commit_custom`, where it is shown."""

    nid: str
    caption: str
    headline: str
    custom: str
    workflow_id: str

    def names(self, mark: str) -> bool:
        """Tell whether the asset shows this mark."""
        return mark in self.caption or mark in self.custom


@dataclass(frozen=True, slots=True)
class HistoryCommit:
    """One commit of an asset's history. `said` is everything that the entry holds, as text."""

    asset_tree_cid: str
    tx_hash: str
    author: str
    committer: str
    timestamp: int
    action: str
    said: str


@dataclass(frozen=True, slots=True)
class Committed:
    """What the service answers to a commit."""

    tx_hash: str
    asset_tree_cid: str
    order_id: str


Standing = Literal["running", "done", "failed"]
_STANDINGS: Final[Mapping[str, Standing]] = {
    "success": "done",
    "succeeded": "done",
    "completed": "done",
    "done": "done",
    "failure": "failed",
    "failed": "failed",
    "revoked": "failed",
    "error": "failed",
}


class _Token(AuthBase):
    """Sets the one header. As `auth=`, so that a netrc file of the machine doesn't put another in its place."""

    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"token {self._token}"
        return request


class Capture:
    """The service, by its addresses and our token. Not shared between threads.

    Raises, from every method: CaptureError.
    """

    def __init__(
        self,
        endpoints: Endpoints,
        token: str,
        *,
        testnet: bool = False,
        timeout_seconds: float = 30.0,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._at = endpoints
        self._token = token
        self._testnet = testnet
        self._timeout = timeout_seconds
        self._sleep = sleep
        self._session = requests.Session()
        self._auth = _Token(token)

    def __repr__(self) -> str:
        return f"Capture({self._at.api}{', testnet' if self._testnet else ''})"

    # --- what changes something: sent once -------------------------------------------------------

    def register(self, *, file: bytes, filename: str, mime: str, fields: Mapping[str, str]) -> Asset:
        """Register a file as an asset. Costs a commit.

        `fields`: caption, headline (at most 25 characters), nit_commit_custom, signed_metadata, signature,
        public_access.
        """
        _require_headline(fields.get("headline", ""))
        files = {"asset_file": (filename, file, mime)}
        return _asset(self._once("POST", f"{self._at.api}/assets/", data=dict(fields), files=files))

    def update(self, nid: str, fields: Mapping[str, str]) -> Asset:
        """Change an asset: caption, headline, nit_commit_custom, commit_message. Costs a commit."""
        _require_headline(fields.get("headline", ""))
        return _asset(self._once("PATCH", self._asset_url(nid), data=dict(fields)))

    def commit(self, body: Mapping[str, Any]) -> Committed:
        """Commit on an asset. Costs 0.1 NUM and gas."""
        _require_headline(str(body.get("headline", "")))
        whole = {**body, "testnet": True} if self._testnet else dict(body)
        answer = self._once("POST", self._at.commit, json=whole)
        return Committed(
            tx_hash=_text(answer, "txHash").lower(),
            asset_tree_cid=_text(answer, "assetTreeCid"),
            order_id=_text(answer, "order_id", default=""),
        )

    # --- what changes nothing: asked up to three times ---------------------------------------------

    def asset(self, nid: str) -> Asset:
        """Read an asset. Raises: NoSuchAsset."""
        return _asset(self._again("GET", self._asset_url(nid)))

    def history(self, nid: str) -> list[HistoryCommit]:
        """Read an asset's commits, oldest first; none where the service knows no such asset."""
        params = {"nid": nid, **({"testnet": "true"} if self._testnet else {})}
        try:
            answer = self._again("GET", self._at.history, params=params)
        except NoSuchAsset:
            return []
        commits = answer.get("commits")
        if not isinstance(commits, list):
            raise NoAnswer("the history has no list of commits")
        return sorted((_history_commit(item) for item in commits), key=lambda found: found.timestamp)

    def tree(self, commits: Sequence[HistoryCommit]) -> dict[str, Any]:
        """Read the asset tree that these commits merge into."""
        wanted = [{"assetTreeCid": item.asset_tree_cid, "timestampCreated": item.timestamp} for item in commits]
        answer = self._again("POST", self._at.tree, json=wanted)
        merged = answer.get("mergedAssetTree", answer)
        if not isinstance(merged, dict):
            raise NoAnswer("the asset tree is not an object")
        return merged

    def workflow(self, workflow_id: str) -> Standing:
        """Ask how far the work behind a registration is. It is a workflow's id, and says nothing of a transaction."""
        answer = self._again("GET", f"{self._at.api}/workflows/{quote(workflow_id, safe='')}/")
        said = str(answer.get("status") or answer.get("state") or "").lower()
        return _STANDINGS.get(said, "running")

    # --- one exchange ------------------------------------------------------------------------------

    def _asset_url(self, nid: str) -> str:
        return f"{self._at.api}/assets/{quote(nid, safe='')}/"

    def _again(self, method: str, url: str, **request: Any) -> dict[str, Any]:
        pause = _FIRST_PAUSE_SECONDS
        for _ in range(READ_TRIES - 1):
            try:
                return self._once(method, url, **request)
            except (NotReached, NoAnswer, Throttled):
                # Jitter, so that a fleet that lost the service together does not come back together.
                self._sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311
                pause *= 4
        return self._once(method, url, **request)

    def _once(self, method: str, url: str, **request: Any) -> dict[str, Any]:
        # No proxy of the environment stands between us and this machine.
        self._session.trust_env = urlsplit(url).hostname not in _LOOPBACK
        deadline = time.monotonic() + self._timeout
        try:
            response = self._session.request(
                method,
                url,
                auth=self._auth,
                timeout=(min(_CONNECT_SECONDS, self._timeout), self._timeout),
                allow_redirects=False,
                stream=True,
                **request,
            )
            with response:
                content = self._content(response, deadline)
        except requests.ConnectTimeout:
            raise NotReached("no connection within the time") from None
        except requests.exceptions.ProxyError:
            raise NotReached("the proxy does not let us through") from None
        except requests.ConnectionError as error:
            # Its text names hosts and objects; who operates the house knows the addresses.
            if _never_connected(error):
                raise NotReached("the service can't be reached") from None
            raise NoAnswer("the connection broke before an answer came") from None
        except requests.Timeout:
            raise NoAnswer(f"no answer within {self._timeout:g} s") from None
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError):
            raise NoAnswer("the connection broke within the answer") from None
        if response.status_code // 100 != 2:
            raise self._refusal(response.status_code, content)
        answer = _json(content)
        if not isinstance(answer, dict):
            raise NoAnswer(f"HTTP {response.status_code} with an answer that is not a JSON object")
        return answer

    def _content(self, response: requests.Response, deadline: float) -> bytes:
        """Read a bounded answer within a bounded time: a server that drips bytes would hold us for ever."""
        content = bytearray()
        while piece := response.raw.read1(_PIECE, decode_content=True):
            content += piece
            if len(content) > MAX_ANSWER_BYTES:
                raise NoAnswer(f"the answer is longer than {MAX_ANSWER_BYTES} bytes")
            if time.monotonic() > deadline:
                raise NoAnswer(f"the answer was not whole within {self._timeout:g} s")
        return bytes(content)

    def _refusal(self, status: int, content: bytes) -> CaptureError:
        said = _said(_json(content)).replace(self._token, "…") if self._token else _said(_json(content))
        told = f"HTTP {status}: {said}" if said else f"HTTP {status}"
        if status in (408, 425) or status >= 500:
            return NoAnswer(told)
        if status == 429:
            return Throttled(told)
        if status == 401:
            return Unauthorised(told)
        if status == 403:
            return NotOwner(told)
        if status == 404:
            return NoSuchAsset(told)
        if "insufficient" in said.lower():
            return InsufficientFunds(told)
        return Refused(told)


def _require_headline(text: str) -> None:
    if len(text) > MAX_HEADLINE:
        raise Refused(f"headline has {len(text)} characters, at most {MAX_HEADLINE} are taken")


def _never_connected(error: requests.ConnectionError) -> bool:
    reason = getattr(error.args[0] if error.args else None, "reason", None)
    if isinstance(reason, urllib3.exceptions.SSLError):
        return "CERTIFICATE_VERIFY_FAILED" in str(reason)
    return isinstance(reason, urllib3.exceptions.NewConnectionError | urllib3.exceptions.ConnectTimeoutError)


def _json(content: bytes) -> Any:
    return read_json(content.decode("utf-8", errors="replace"))


def _said(answer: Any) -> str:
    """Find what a refusal says: {"detail"}, {"message"}, {"error": text or {type, message}}, or fields with lists."""
    if not isinstance(answer, dict):
        return ""
    error = answer.get("error")
    inner = error.get("message") or error.get("type") if isinstance(error, dict) else error
    told = answer.get("detail") or answer.get("message") or inner
    if not told and answer:
        told = "; ".join(f"{name}: {value}" for name, value in list(answer.items())[:4])
    return "".join(letter if letter.isprintable() else " " for letter in str(told or ""))[:_SHOWN]


def _text(answer: Mapping[str, Any], *names: str, default: str | None = None) -> str:
    for name in names:
        value = answer.get(name)
        if isinstance(value, str) and value:
            return value[:_SHOWN]
    if default is None:
        raise NoAnswer(f"the answer has no {' or '.join(names)}")
    return default


def _asset(answer: Mapping[str, Any]) -> Asset:
    custom = answer.get("nit_commit_custom")
    return Asset(
        nid=_text(answer, "cid", "id"),
        caption=str(answer.get("caption") or ""),
        headline=str(answer.get("headline") or ""),
        custom=custom if isinstance(custom, str) else json.dumps(custom),
        workflow_id=_text(answer, "post_creation_workflow_id", default=""),
    )


def _history_commit(item: Any) -> HistoryCommit:
    if not isinstance(item, dict):
        raise NoAnswer("a commit of the history is not an object")
    timestamp = item.get("timestampCreated")
    return HistoryCommit(
        asset_tree_cid=_text(item, "assetTreeCid"),
        tx_hash=_text(item, "txHash", "transaction", default="").lower(),
        author=_text(item, "author", default=""),
        committer=_text(item, "committer", default=""),
        timestamp=int(timestamp) if isinstance(timestamp, int | float) and timestamp < 2**53 else 0,
        action=_text(item, "action", default=""),
        said=json.dumps(item),
    )
