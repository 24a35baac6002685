"""Read what a tally holds, once, for all steps: receipts decoded from their bytes, never from anywhere else. Pure."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, Final

from jobs.client.shape import find_fault, fitting
from jobs.client.tally_format import LoggedReceipt, Tally
from jobs.client.trust import YOUNGER, Trust, TrustedKey
from jobs.client.verdicts import Broken, Newer, Unknown
from receipts.canonical import MAX_RECEIPT_BYTES, Nid, NotCanonical, decode_canonical, nid, read_utc
from receipts.events import EVENTS, About, schema_of

PUBLIC_IN_A_TALLY: Final = ("UsageAttested", "TokensMinted")


@dataclass(frozen=True, slots=True)
class Read:
    """A receipt that is what its type says. `index` is its place in the tally, `leaf` in the log."""

    index: int
    nid: Nid
    leaf: int | None
    body: Mapping[str, Any]
    list: str = "receipts"

    @property
    def type(self) -> str:
        return str(self.body["eventType"])

    @property
    def data(self) -> Mapping[str, Any]:
        data: Mapping[str, Any] = self.body["data"]
        return data

    def at(self, path: str) -> str:
        """Name one of its fields for a person."""
        return f"{self.list}[{self.index}] {self.type} {path}"


@dataclass(frozen=True, slots=True)
class Gone:
    """A receipt whose bytes were erased: what the log's entry says of it."""

    index: int
    nid: Nid
    type: str


@dataclass(frozen=True)
class Case:
    """A tally, the trust file, and what the checker has at hand besides."""

    tally: Tally
    trust: Trust
    artifact: bytes | None = None
    rpc_url: str | None = None

    @cached_property
    def attempted(self) -> tuple["Read | Gone | Broken | Newer", ...]:
        """Read every receipt, or say why it can't be."""
        return tuple(_attempt("receipts", index, item) for index, item in enumerate(self.tally.receipts))

    @cached_property
    def erasures(self) -> tuple["Read | Gone | Broken | Newer", ...]:
        """Read the acts by which something was erased."""
        return tuple(_attempt("erasures", index, item) for index, item in enumerate(self.tally.erasures))

    @cached_property
    def receipts(self) -> tuple[Read, ...]:
        """Give all receipts.

        Raises: Newer, Unknown: a step that needs them all can't judge when one can't be read.
        """
        found: list[Read] = []
        for item in self.attempted:
            if isinstance(item, Newer):
                raise item
            if isinstance(item, Broken):
                raise Unknown(f"{item.fault.field} can't be read (see receipts-canonical)")
            if isinstance(item, Gone):
                raise Unknown(f"receipts[{item.index}] {item.type} was erased, which a logged act says")
            found.append(item)
        return tuple(found)

    @cached_property
    def readable(self) -> tuple[Read, ...]:
        """Give the receipts that can be read, whatever the others are."""
        return tuple(item for item in self.attempted if isinstance(item, Read))

    @property
    def of_the_job(self) -> tuple[Read, ...]:
        """Give the job's own receipts, in the tally's order."""
        return tuple(item for item in self.receipts if EVENTS[item.type].about is About.JOB)

    @property
    def public(self) -> tuple[Read, ...]:
        """Give the public receipts about it, in the tally's order."""
        return tuple(item for item in self.receipts if EVENTS[item.type].about is not About.JOB)

    def all(self, event_type: str) -> tuple[Read, ...]:
        """Give the readable receipts of a type."""
        return tuple(item for item in self.readable if item.type == event_type)

    def find(self, event_type: str) -> Read | None:
        """Find the newest receipt of a type."""
        found = self.all(event_type)
        return found[-1] if found else None

    def need(self, event_type: str) -> Read:
        """Find the newest receipt of a type. Raises: Unknown."""
        found = self.find(event_type)
        if found is None:
            if any(isinstance(item, Newer) for item in self.attempted):
                raise Newer(f"newer: no {event_type} that this verifier can read")
            if any(isinstance(item, Gone) and item.type == event_type for item in self.attempted):
                raise Unknown(f"its {event_type} was erased, which a logged act says")
            raise Unknown(f"the tally holds no {event_type} that can be read")
        return found

    def scheduled_for(self, receipt: Read) -> Read | None:
        """Find the JobScheduled of a receipt's attempt."""
        same = [item for item in self.all("JobScheduled") if item.body["attempt"] == receipt.body["attempt"]]
        return same[0] if same else None

    @property
    def origin(self) -> str:
        """Say who ran the work: hosted, reported or simulated. Raises: Unknown."""
        return str(self.need("JobSubmitted").body["origin"])

    @cached_property
    def artifact_sha256(self) -> str:
        """Name the given artifact. Raises: Unknown, without one."""
        if self.artifact is None and self.tally.erasures:
            raise Unknown("erased by a logged act, all or in part; who kept a file gives it with --artifact")
        if self.artifact is None:
            raise Unknown("give the file itself with --artifact")
        return hashlib.sha256(self.artifact).hexdigest()

    @property
    def node_url(self) -> str:
        """Say which node of the chain may be asked. Raises: Unknown, without one."""
        if self.rpc_url is None:
            raise Unknown("not asked: name a node of the chain with --rpc")
        return self.rpc_url

    def require_key(self, where: str, role: str, key_id: str, leaf: int | None) -> TrustedKey:
        """Insist that the trust file names this key, in this role, for what stands at `leaf`.

        Raises: Broken; Unknown, where it depends on a leaf that is not given yet.
        """
        known = self.trust.holding(role)
        for key in known:
            if key.key_id == key_id:
                _require_valid(where, key, leaf)
                return key
        expected = " or ".join(key.key_id for key in known) or f"no {role} key at all"
        raise Broken(
            where,
            f"the trust file names no such {role} key: {YOUNGER}",
            expected=expected,
            found=key_id,
        )


def _require_valid(where: str, key: TrustedKey, leaf: int | None) -> None:
    """Insist that a key counts at a leaf. The log gives leaves, so a thief can't choose one as they can a time."""
    if leaf is None:
        if key.until_leaf is not None:
            raise Unknown(f"{where}: the {key.role} key {key.key_id} counts {key.span}, and its leaf is not known yet")
    elif not key.counts_at(leaf):
        raise Broken(
            where,
            f"the {key.role} key {key.key_id} counts {key.span}, not at leaf {leaf}",
            expected=key.span,
            found=f"leaf {leaf}",
        )


@cache
def _fitting(event_type: str) -> Callable[[Any], bool]:
    return fitting(schema_of(event_type))


def _attempt(list_: str, index: int, item: LoggedReceipt) -> Read | Gone | Broken | Newer:
    if item.erased is not None:
        return Gone(index, Nid(item.erased.nid), item.erased.event_type)
    where = f"{list_}[{index}].bytes"
    try:
        value = decode_canonical(item.body, max_bytes=MAX_RECEIPT_BYTES)
    except NotCanonical as error:
        return Broken(where, f"not a receipt: {error}")
    if not isinstance(value, dict):
        return Broken(where, "not a receipt: an object is due")
    event_type, version = value.get("eventType"), value.get("v")
    if not isinstance(event_type, str) or not isinstance(version, int) or isinstance(version, bool):
        return Broken(where, "not a receipt: it names no eventType and version")
    if version > 1 or event_type not in EVENTS:
        return Newer(f"newer: {list_}[{index}] is a {event_type[:40]!r} of version {version}, unknown here")
    if not _fitting(event_type)(value) and (fault := find_fault(schema_of(event_type), value)):
        path = fault.where or "$"
        return Broken(f"{list_}[{index}] {event_type} {path}", fault.rule, found=fault.found)
    try:
        read_utc(value["occurredAt"])
    except NotCanonical as error:
        return Broken(f"{list_}[{index}] {event_type} occurredAt", error.rule, found=value["occurredAt"])
    return Read(index, nid(item.body), item.leaf, value, list_)
