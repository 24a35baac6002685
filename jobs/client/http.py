"""Speak to a house over HTTP: submit, follow, take away. Synchronous, typed, with bounded patience.

What changes nothing is asked again after a failure that may pass, and so is a submission: its
Idempotency-Key makes the house give its first answer again. Nothing else is sent twice.
"""

import datetime as dt
import json
import random
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Literal

from jobs.claims import REQUEST, claim_text
from jobs.client.trust import MAX_TRUST_BYTES, WELL_KNOWN
from receipts.canonical import b64url, field_digest, utc
from receipts.keys import Ed25519Signer, sign_text

if TYPE_CHECKING:
    import requests

JSON_LIMIT: Final = 32 * 1024 * 1024
ARTIFACT_LIMIT: Final = 2 * 1024**3
DEFAULT_MODEL: Final = "tiny-shapes"
UNFINISHED: Final = frozenset({"submitted", "scheduled", "running"})
NO_MORE_EVIDENCE: Final = frozenset({"none", "complete"})
_TRIES: Final = 4
_FIRST_PAUSE_SECONDS: Final = 0.25
_LONGEST_PAUSE_SECONDS: Final = 8.0
_MAY_PASS: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
_STILL_RUNNING: Final = "still-running"

Method = Literal["GET", "POST"]
Job = Mapping[str, Any]


class ClientError(Exception):
    """The house did not do what was asked. `may_retry` answers: may I try again as I am?"""

    may_retry = False


class Unreachable(ClientError):
    """No answer came: refused, timed out or broken off. A submission may have arrived."""

    may_retry = True


class NotTheHouse(ClientError):
    """An answer came that no house gives: not JSON where JSON is due, or too much of it."""


class WaitedTooLong(ClientError):
    """The job did not get there in the time that was given."""

    may_retry = True


class Refused(ClientError):
    """The house said no. `field` and `rule` name what it did not like, where it says so."""

    def __init__(self, status: int, problem: Mapping[str, Any]) -> None:
        detail = str(problem.get("detail") or problem.get("title") or f"HTTP {status}")
        super().__init__(detail)
        self.status = status
        self.kind = str(problem.get("type", "")).rpartition("#")[2]
        self.title = str(problem.get("title", ""))
        self.may_retry = bool(problem.get("may_retry", status in _MAY_PASS))
        errors = problem.get("errors")
        first = errors[0] if isinstance(errors, list) and errors and isinstance(errors[0], dict) else {}
        self.field = first.get("field")
        self.rule = first.get("rule")


class NotAllowed(Refused):
    """The API key is missing, unknown, or may not do this (401, 403)."""


class NoSuchThing(Refused):
    """There is nothing here that this key may see (404)."""


class BadRequest(Refused):
    """The request breaks a rule (400, 413, 415, 422); sending it again changes nothing."""


class Conflict(Refused):
    """Not as things stand (409): not yet, or not any more."""


class TooMany(Refused):
    """A limit is reached (429); later there is room again."""


class HouseInTrouble(Refused):
    """The house failed (5xx)."""


_REFUSALS: Final[dict[int, type[Refused]]] = {
    401: NotAllowed,
    403: NotAllowed,
    404: NoSuchThing,
    409: Conflict,
    429: TooMany,
}


@dataclass(frozen=True, slots=True)
class Submitted:
    """What a client is told when its job is accepted, and what to keep: the promise, and its own salts."""

    job_id: str
    nid: str
    created: bool
    promise: Mapping[str, Any]
    salts: Mapping[str, str]
    idempotency_key: str
    answer: Job


class TallystickClient:
    """A house, by its address and one tenant's API key. One thread, one client.

    Raises, from every method: Unreachable, NotTheHouse, Refused or one of its kinds.
    """

    def __init__(
        self,
        base_url: str,
        api_key: str = "",
        *,
        timeout_seconds: float = 30.0,
        sleep: Callable[[float], None] = time.sleep,
        session: "requests.Session | None" = None,
    ) -> None:
        import requests

        self.base_url = base_url.rstrip("/")
        self._api = f"{self.base_url}/api/v1"
        self._timeout = timeout_seconds
        self._sleep = sleep
        self._session = session or requests.Session()
        self._session.headers["Accept"] = "application/json"
        if api_key:
            self._session.headers["Authorization"] = f"Bearer {api_key}"

    def __enter__(self) -> "TallystickClient":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._session.close()

    # --- jobs --------------------------------------------------------------------------------------

    def submit(
        self,
        kind: str,
        inputs: Mapping[str, Any],
        *,
        model: str = DEFAULT_MODEL,
        signer: Ed25519Signer | None = None,
        hub: str | None = None,
        idempotency_key: str | None = None,
        max_price: int | None = None,
        priority: int = 0,
        ttl_s: int | None = None,
    ) -> Submitted:
        """Submit a job; with a `signer` the request is signed, over inputs in their normal form and salts of ours.

        `hub` is the origin of the house's log, for which alone the signature counts; left out, the house is asked.
        Raises: jobs.runners.base.BadInput, before anything is sent, for an input that breaks its rule.
        """
        body: dict[str, Any] = {"kind": kind, "model": model, "inputs": dict(inputs)}
        if max_price is not None:
            body["max_price"] = str(max_price)
        if priority:
            body["priority"] = priority
        if ttl_s is not None:
            body["ttl_s"] = ttl_s
        if signer is not None:
            body |= signed_request(
                kind, inputs, model=model, signer=signer, hub=hub or self._origin(), max_price=body.get("max_price")
            )
        key = idempotency_key or b64url(secrets.token_bytes(16))
        created, answer = self._post_job(body, key)
        return Submitted(
            job_id=str(answer["job_id"]),
            nid=str(answer["nid"]),
            created=created,
            promise=answer.get("promise", {}),
            salts=answer.get("salts", {}),
            idempotency_key=key,
            answer=answer,
        )

    def get(self, job_id: str) -> Job:
        """Look at one job."""
        return self._object("GET", f"/jobs/{_segment(job_id)}")

    def list_jobs(self, *, state: str | None = None, kind: str | None = None, limit: int = 50) -> list[Job]:
        """Look at the newest jobs that the key may see."""
        asked = {"limit": str(limit)} | {name: value for name, value in (("state", state), ("kind", kind)) if value}
        page = self._object("GET", "/jobs", params=asked)
        results = page.get("results")
        if not isinstance(results, list):
            raise NotTheHouse("the list of jobs has no results")
        return results

    def cancel(self, job_id: str) -> Job:
        """Call a job off. Not repeated: a second call would be told that it is over."""
        return self._object("POST", f"/jobs/{_segment(job_id)}/cancel", body={}, tries=1)

    def watch(self, job_id: str, *, timeout_seconds: float = 600.0) -> Iterator[Job]:
        """Yield the job each time it changed, until it is over and no evidence is due any more.

        Raises: WaitedTooLong.
        """
        give_up = time.monotonic() + timeout_seconds
        before: Any = None
        pause = 0.3
        while True:
            job = self.get(job_id)
            standing = (job.get("state"), job.get("evidence"), job.get("attempt"), job.get("progress"))
            if standing != before:
                before, pause = standing, 0.3
                yield job
            if is_over(job):
                return
            if time.monotonic() > give_up:
                raise WaitedTooLong(f"{job_id} is {job.get('state')} after {timeout_seconds:g} s")
            self._sleep(pause)
            pause = min(2.0, pause * 1.3)

    def wait(
        self,
        job_id: str,
        *,
        until: Callable[[Job], bool] | None = None,
        timeout_seconds: float = 600.0,
    ) -> Job:
        """Wait until the job is over and its evidence complete, or until `until` says so.

        Raises: WaitedTooLong.
        """
        job: Job = {}
        for job in self.watch(job_id, timeout_seconds=timeout_seconds):
            if until is not None and until(job):
                return job
        return job

    # --- evidence ----------------------------------------------------------------------------------

    def receipts(self, job_id: str) -> list[Mapping[str, Any]]:
        """List all receipts of a job, evidence included."""
        found = self._json("GET", f"/jobs/{_segment(job_id)}/receipts")
        if not isinstance(found, list):
            raise NotTheHouse("the receipts are no list")
        return found

    def receipt(self, nid: str) -> bytes:
        """Take a receipt's exact bytes; whoever keeps them checks that they hash to the NID."""
        return self._bytes(f"{self._api}/receipts/{_segment(nid)}", limit=1024 * 1024)

    def tally(self, job_id: str, *, disclose: tuple[str, ...] = ()) -> bytes:
        """Take the tally away; `disclose` names the inputs that it shows.

        Raises: Conflict, while a receipt waits for its checkpoint.
        """
        asked = [("disclose", name) for name in disclose]
        return self._bytes(f"{self._api}/jobs/{_segment(job_id)}/tally", limit=JSON_LIMIT, params=asked)

    def artifact(self, job_id: str, *, name: str | None = None) -> bytes:
        """Take the signed output away. Raises: Conflict, while it has no credential yet."""
        asked = [("name", name)] if name else []
        return self._bytes(f"{self._api}/jobs/{_segment(job_id)}/artifact", limit=ARTIFACT_LIMIT, params=asked)

    def download(self, job_id: str, folder: Path, *, disclose: tuple[str, ...] = ()) -> list[Path]:
        """Keep a job's tally and its signed outputs in a folder; each file appears whole."""
        folder.mkdir(parents=True, exist_ok=True)
        kept = [_keep(folder / f"{job_id}.tally.json", self.tally(job_id, disclose=disclose))]
        for item in self.get(job_id).get("artifacts", []):
            name = str(item["name"])
            # The name comes from the house: it must not lead out of the folder.
            safe = Path(name).name or "artifact"
            kept.append(_keep(folder / f"{job_id}-{safe}", self.artifact(job_id, name=name)))
        return kept

    def well_known(self) -> dict[str, Any]:
        """Fetch the house's keys, chain and policy, as its root key signed them; not believed yet."""
        raw = self._bytes(f"{self.base_url}{WELL_KNOWN}", limit=MAX_TRUST_BYTES)
        return _object_of(raw)

    # --- the wire ----------------------------------------------------------------------------------

    def _origin(self) -> str:
        log = self.well_known().get("log")
        if not isinstance(log, dict) or not isinstance(log.get("origin"), str):
            raise NotTheHouse("the house publishes no log")
        return str(log["origin"])

    def _post_job(self, body: Mapping[str, Any], key: str) -> tuple[bool, dict[str, Any]]:
        headers = {"Idempotency-Key": key}
        with self._asking("POST", f"{self._api}/jobs", tries=_TRIES, json=body, headers=headers) as response:
            answer = _object_of(_read(response, JSON_LIMIT))
            if "job_id" not in answer or "nid" not in answer:
                raise NotTheHouse("the answer to a submission names no job")
            return response.status_code == 201, answer

    def _json(self, method: Method, path: str, *, tries: int = _TRIES, **given: Any) -> Any:
        if "body" in given:
            given["json"] = given.pop("body")
        with self._asking(method, f"{self._api}{path}", tries=tries, **given) as response:
            return _parsed(_read(response, JSON_LIMIT))

    def _object(self, method: Method, path: str, **given: Any) -> dict[str, Any]:
        value = self._json(method, path, **given)
        if not isinstance(value, dict):
            raise NotTheHouse("the answer is no object")
        return value

    def _bytes(self, url: str, *, limit: int, params: Any = ()) -> bytes:
        with self._asking("GET", url, tries=_TRIES, params=params) as response:
            return _read(response, limit)

    @contextmanager
    def _asking(self, method: Method, url: str, *, tries: int, **given: Any) -> Iterator["requests.Response"]:
        """Ask, and ask again what may pass; the last answer is given or raised."""
        import requests

        response = None
        for turn in range(1, tries + 1):
            try:
                response = self._session.request(
                    method, url, timeout=self._timeout, stream=True, allow_redirects=False, **given
                )
            except requests.RequestException as error:
                # The library's own text names objects and addresses; ours says which house.
                if turn == tries or not isinstance(error, requests.ConnectionError | requests.Timeout):
                    raise Unreachable(f"{self.base_url} can't be reached: {_reason(error)}") from None
                self._sleep(_pause(turn, None))
                continue
            if turn == tries or not _may_pass(response):
                break
            waits = response.headers.get("Retry-After")
            response.close()
            self._sleep(_pause(turn, waits))
        assert response is not None
        with response:
            if not 200 <= response.status_code < 300:
                raise _refusal(response)
            yield response


def signed_request(
    kind: str, inputs: Mapping[str, Any], *, model: str, signer: Ed25519Signer, hub: str, max_price: str | None = None
) -> dict[str, Any]:
    """Sign a request, over what the house will read and with a salt of our own for each input.

    Gives the fields `inputs salts claim sig` of its body. Raises: jobs.runners.base.BadInput.
    """
    from jobs.runners import runner_for

    normal = dict(runner_for(kind).schema.normalise(inputs))
    salts = {name: secrets.token_bytes(16) for name in normal}
    claim = claim_text(
        REQUEST,
        kind=kind,
        model=model,
        inputs={name: field_digest(name, value, salts[name]) for name, value in normal.items()},
        hub=hub,
        nonce=b64url(secrets.token_bytes(16)),
        at=utc(dt.datetime.now(dt.UTC)),
        max_price=max_price,
    )
    return {
        "inputs": normal,
        "salts": {name: b64url(salt) for name, salt in salts.items()},
        "claim": claim,
        "sig": dict(sign_text(signer, claim)),
    }


def is_over(job: Job) -> bool:
    """Say whether nothing more will happen to a job, evidence included."""
    return job.get("state") not in UNFINISHED and job.get("evidence", "none") in NO_MORE_EVIDENCE


def _may_pass(response: "requests.Response") -> bool:
    if response.status_code == 409:
        problem = _problem_of(response)
        return str(problem.get("type", "")).endswith(f"#{_STILL_RUNNING}")
    return response.status_code in _MAY_PASS


def _refusal(response: "requests.Response") -> Refused:
    status = response.status_code
    if status >= 500:
        kind: type[Refused] = HouseInTrouble
    else:
        kind = _REFUSALS.get(status, BadRequest)
    return kind(status, _problem_of(response))


def _problem_of(response: "requests.Response") -> Mapping[str, Any]:
    """Read a problem; a proxy between us and the house may answer with anything."""
    try:
        value = json.loads(response.content[:65_536])
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _pause(turn: int, retry_after: str | None) -> float:
    """Wait longer each time, with jitter; as long as the house asks for, within reason."""
    if retry_after is not None and retry_after.isdecimal():
        return min(float(retry_after), _LONGEST_PAUSE_SECONDS)
    longest = min(_LONGEST_PAUSE_SECONDS, _FIRST_PAUSE_SECONDS * 2**turn)
    return random.uniform(longest / 2, longest)  # noqa: S311


def _read(response: "requests.Response", limit: int) -> bytes:
    import requests

    parts: list[bytes] = []
    size = 0
    try:
        for part in response.iter_content(1024 * 1024):
            size += len(part)
            if size > limit:
                raise NotTheHouse(f"the answer is longer than {limit} bytes")
            parts.append(part)
    except requests.RequestException as error:
        raise Unreachable(f"the answer broke off: {_reason(error)}") from None
    return b"".join(parts)


def _parsed(raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except ValueError:
        raise NotTheHouse("the answer is not JSON: is this the address of a house?") from None


def _object_of(raw: bytes) -> dict[str, Any]:
    value = _parsed(raw)
    if not isinstance(value, dict):
        raise NotTheHouse("the answer is no object: is this the address of a house?")
    return value


def _reason(error: Exception) -> str:
    import requests

    if isinstance(error, requests.Timeout):
        return "no answer in time"
    if isinstance(error, requests.ConnectionError):
        return "no connection"
    return type(error).__name__


def _segment(name: str) -> str:
    from urllib.parse import quote

    return quote(name, safe="")


def _keep(path: Path, data: bytes) -> Path:
    draft = path.with_name(f".{path.name}.part")
    draft.write_bytes(data)
    draft.replace(path)
    return path
