"""Tell the life of one job as its client sees it: over HTTP, with an API key and a signing key of its own.

Nothing here looks into the house: what is told comes from the API, what is judged from the tally and
a trust file, by the verifier that anyone can run elsewhere.
"""

import contextlib
import datetime as dt
import re
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from config.embedded.process import HouseProblem, Say
from jobs.client import report as shown
from jobs.client.http import ClientError, Conflict, Submitted, TallystickClient
from jobs.client.tally_format import NotATally, Tally, read_tally
from jobs.client.trust import NotATrustFile, Trust, add_own, read_trust, require_root, trust_of
from jobs.client.verdicts import Verdict, Word
from jobs.client.verify import EXIT_UNKNOWN, Report, verify_tally
from receipts.canonical import decode_canonical, encode
from receipts.durable import write_durably
from receipts.keys import Ed25519Signer, KeyUnusable, keccak256, read_key_file

STEPS: Final = 40  # enough for the eye to follow; the model needs fifteen
JOB_SECONDS: Final = 600
EVIDENCE_SECONDS: Final = 120
_AGAIN_S: Final = 0.5
_CHAIN_CLAIMS: Final = ("anchor-on-chain", "mint-on-chain")
# The amount in the usage receipt: one bit of it makes one token more or less.
_AMOUNT: Final = re.compile(rb'\\"amount\\":\\"[0-9]*([0-9])\\"|\\\\\\"amount\\\\\\":\\\\\\"[0-9]*([0-9])\\\\\\"')


@dataclass(frozen=True)
class Client:
    """What a client of this house has in hand."""

    base_url: str
    api_key: str
    keys_dir: Path
    folder: Path
    rpc_url: str


@dataclass(frozen=True)
class Tampered:
    """What the verifier said of a copy in which one byte was changed."""

    what: str
    path: Path
    report: Report

    @property
    def broken(self) -> list[Verdict]:
        return [verdict for verdict in self.report.verdicts if verdict.verdict is Word.BROKEN]

    def as_json(self) -> dict[str, Any]:
        return {
            "path": str(self.path),
            "verify_exit": self.report.exit_code,
            "verdict": str(Word.BROKEN if self.broken else Word.HOLDS),
            "broken": {verdict.claim: verdict.field for verdict in self.broken},
        }


def tell(client: Client, prompt: str, say: Say) -> dict[str, Any]:
    """Have a picture made and its evidence checked; give what a program needs to look for itself.

    Raises: HouseProblem, when the job does not get to its end.
    """
    try:
        with TallystickClient(client.base_url, client.api_key) as house:
            return _tell(client, house, prompt, say)
    except (ClientError, NotATally, NotATrustFile, KeyUnusable) as error:
        raise HouseProblem(f"the demonstration stopped: {error}") from error


def _tell(client: Client, house: TallystickClient, prompt: str, say: Say) -> dict[str, Any]:
    began = time.monotonic()
    signer = read_key_file(client.keys_dir / "client.key")
    assert isinstance(signer, Ed25519Signer), "founding makes it so"
    trust_path = keep_trust(client, house, signer)
    trust = read_trust(trust_path.read_bytes())

    say("")
    say(f"asking for {prompt!r}, signed with the client's own key {signer.key_id[:12]}…")
    submitted = house.submit("text-to-image", {"prompt": prompt, "steps": STEPS}, signer=signer)
    _tell_promise(submitted, say)
    _follow(house, submitted, say)
    tally_path, artifact_path, report = _take_away(client, house, submitted.job_id, trust)
    tally = read_tally(tally_path.read_bytes())
    receipts = house.receipts(submitted.job_id)
    checkpoint = _tell_log(tally, receipts, say)
    mint = _tell_chain(tally, receipts, say)
    job_seconds = time.monotonic() - began

    began = time.monotonic()
    _tell_verdicts(client, tally_path, trust_path, artifact_path, trust, report, say)
    tampered = [
        _tamper("picture", tally_path, artifact_path, trust, picture=True),
        _tamper("tally", tally_path, artifact_path, trust, picture=False),
    ]
    _tell_tampered(tampered, say)
    return {
        "job_id": submitted.job_id,
        "job_nid": submitted.nid,
        "state": house.get(submitted.job_id)["state"],
        "artifact_path": str(artifact_path),
        "tally_path": str(tally_path),
        "trust_path": str(trust_path),
        "receipts": len(receipts),
        "checkpoint": checkpoint,
        "anchor_tx": _hash_of(tally.anchor),
        "mint_tx": mint.get("tx_hash"),
        "minted_amount": mint.get("amount"),
        "verdicts": {verdict.claim: str(verdict.verdict) for verdict in report.verdicts},
        "required": list(trust.require),
        "verify_exit": report.exit_code,
        "tampered": {item.what: item.as_json() for item in tampered},
        "seconds": {"job": round(job_seconds, 1), "verify": round(time.monotonic() - began, 1)},
    }


def keep_trust(client: Client, house: TallystickClient, signer: Ed25519Signer) -> Path:
    """Keep the house's keys beside the tallies, as a holder does; the root key is known from this very machine."""
    document = house.well_known()
    require_root(trust_of(document), read_key_file(client.keys_dir / "root.key").key_id)
    path = client.folder / "tallystick.trust.json"
    write_durably(path, encode(add_own(document, clients=[signer.key_id])) + b"\n")
    return path


# --- while it happens -----------------------------------------------------------------------------


def _tell_promise(submitted: Submitted, say: Say) -> None:
    promise = decode_canonical(str(submitted.promise["claim"]).encode())
    say(_line("0.0 s", "submitted", f"{submitted.job_id}, NID {submitted.nid}"))
    say(_line("", "promise", f"the hub signs that this receipt is in its log by {promise['by']}"))


def _follow(house: TallystickClient, submitted: Submitted, say: Say) -> None:
    """Tell each receipt when it appears. Raises: HouseProblem for a job that does not complete."""
    told: set[str] = set()
    ended: Mapping[str, Any] = {}
    asked_at = dt.datetime.fromisoformat(submitted.answer["created_at"])
    for job in house.watch(submitted.job_id, timeout_seconds=JOB_SECONDS):
        ended = job
        for receipt in house.receipts(submitted.job_id):
            if receipt["nid"] not in told:
                told.add(receipt["nid"])
                _tell_receipt(receipt["receipt"], asked_at, say)
    if ended["state"] != "completed":
        raise HouseProblem(f"the job ended as {ended['state']} ({ended.get('failure_class') or 'no reason given'})")


def _tell_receipt(body: Mapping[str, Any], asked_at: dt.datetime, say: Say) -> None:
    if (describe := _DESCRIBED.get(body["eventType"])) is not None:
        after = (dt.datetime.fromisoformat(body["occurredAt"]) - asked_at).total_seconds()
        say(_line(f"{after:.1f} s", *describe(body["data"])))


def _claim(data: Mapping[str, Any]) -> dict[str, Any]:
    claim: dict[str, Any] = decode_canonical(data["claim"].encode())
    return claim


def _scheduled(data: Mapping[str, Any]) -> tuple[str, str]:
    asked = "one provider asked" if data["asks"] == 1 else f"{data['asks']} providers asked"
    return "scheduled", f"{asked}; leased to {data['provider'][:12]}…, fencing number {data['fencing']}"


def _started(data: Mapping[str, Any]) -> tuple[str, str]:
    claim = _claim(data)
    return "started", f"model {claim['model']} on {claim['device']}, signed by the provider"


def _progress(data: Mapping[str, Any]) -> tuple[str, str]:
    return "progress", f"denoising step {data['step']} of {data['steps']}"


def _completed(data: Mapping[str, Any]) -> tuple[str, str]:
    output = _claim(data)["outputs"][0]
    return "completed", f"{output['name']}, {output['size']} bytes, sha256 {output['sha256'][:16]}…"


def _credential(data: Mapping[str, Any]) -> tuple[str, str]:
    return "credential", f"C2PA, embedded; the signed file's sha256 {data['signed_sha256'][:16]}…"


def _usage(data: Mapping[str, Any]) -> tuple[str, str]:
    claim = _claim(data)
    return "usage", f"the provider claims {claim['units']} {claim['unit_type']} at {claim['price']} each"


def _attested(data: Mapping[str, Any]) -> tuple[str, str]:
    return "attested", f"{data['amount']} of the token's smallest unit, client's acceptance: {data['acceptance']}"


_DESCRIBED: Final[dict[str, Callable[[Mapping[str, Any]], tuple[str, str]]]] = {
    "JobScheduled": _scheduled,
    "JobStarted": _started,
    "JobProgressUpdate": _progress,
    "JobRequeued": lambda data: ("requeued", f"{data['cause']}; attempts left: {data['attempts_left']}"),
    "JobCompleted": _completed,
    "CredentialIssued": _credential,
    "UsageReceipt": _usage,
    "UsageAttested": _attested,
}


# --- the evidence ---------------------------------------------------------------------------------


def _take_away(client: Client, house: TallystickClient, job_id: str, trust: Trust) -> tuple[Path, Path, Report]:
    """Download tally and picture once nothing that the policy requires is still on its way."""
    give_up = time.monotonic() + EVIDENCE_SECONDS
    while True:
        with contextlib.suppress(Conflict):  # a receipt waits for its checkpoint
            tally_path, artifact_path = house.download(job_id, client.folder, disclose=("prompt",))
            report = verify_tally(tally_path.read_bytes(), trust, artifact=artifact_path.read_bytes())
            if report.exit_code != EXIT_UNKNOWN or time.monotonic() > give_up:
                return tally_path, artifact_path, report
        if time.monotonic() > give_up:
            raise HouseProblem(f"no tally of {job_id} after {EVIDENCE_SECONDS} s")
        time.sleep(_AGAIN_S)


def _tell_log(tally: Tally, receipts: list[Mapping[str, Any]], say: Say) -> dict[str, Any]:
    assert tally.checkpoint is not None, "a tally in a file has one"
    origin, size, root = tally.checkpoint.splitlines()[:3]
    leaves = sorted(item["leaf"] for item in receipts)
    say(_line("", "leaves", f"{leaves[0]} to {leaves[-1]}, {len(leaves)} receipts"))
    say(_line("", "checkpoint", f"{origin}, size {size}, root {root}"))
    return {"origin": origin, "size": int(size), "root": root}


def _tell_chain(tally: Tally, receipts: list[Mapping[str, Any]], say: Say) -> Mapping[str, Any]:
    say(_line("", "anchor", f"transaction {_hash_of(tally.anchor)}" if tally.anchor else "none yet"))
    minted = [item["receipt"]["data"] for item in receipts if item["eventType"] == "TokensMinted"]
    if not minted:
        say(_line("", "mint", "none"))
        return {}
    data: Mapping[str, Any] = minted[0]
    say(_line("", "mint", f"{data['amount']} to {data['provider']}, block {data['block_number']}, {data['tx_hash']}"))
    return data


def _hash_of(raw: bytes | None) -> str | None:
    return f"0x{keccak256(raw).hex()}" if raw is not None else None


# --- the verdicts ---------------------------------------------------------------------------------


def _tell_verdicts(
    client: Client, tally: Path, trust_path: Path, artifact: Path, trust: Trust, report: Report, say: Say
) -> None:
    say("")
    say("checked offline, by the tally, the picture and the trust file alone:")
    say(f"  {Path(sys.prefix) / 'bin' / 'tallystick'} verify {tally} --trust {trust_path} --artifact {artifact}")
    say("")
    for line in _lines(report, trust):
        say(f"  {line}")
    with_node = verify_tally(tally.read_bytes(), trust, artifact=artifact.read_bytes(), rpc=client.rpc_url)
    say("")
    say(f"and what the chain's node says, asked with --rpc {client.rpc_url}:")
    for verdict, line in zip(with_node.verdicts, _lines(with_node, trust), strict=False):
        if verdict.claim in _CHAIN_CLAIMS:
            say(f"  {line}")


def _lines(report: Report, trust: Trust) -> list[str]:
    utf8 = (sys.stderr.encoding or "ascii").lower().replace("-", "") == "utf8"
    return shown.lines(report, trust, colour=sys.stderr.isatty(), plain=not utf8)


def _tamper(what: str, tally: Path, artifact: Path, trust: Trust, *, picture: bool) -> Tampered:
    """Change one byte in a copy of the picture or of the tally, and let the verifier look at it."""
    original = artifact if picture else tally
    data = bytearray(original.read_bytes())
    place = len(data) // 2 if picture else _amount_in(bytes(data))
    data[place] ^= 1
    path = original.with_name(f"tampered-{original.name}")
    path.write_bytes(data)
    tally_bytes = tally.read_bytes() if picture else bytes(data)
    artifact_bytes = bytes(data) if picture else artifact.read_bytes()
    return Tampered(what, path, verify_tally(tally_bytes, trust, artifact=artifact_bytes))


def _amount_in(tally: bytes) -> int:
    found = _AMOUNT.search(tally)
    if found is None:
        raise HouseProblem("the tally names no amount")
    return found.start(found.lastindex or 0)


def _tell_tampered(tampered: list[Tampered], say: Say) -> None:
    say("")
    say("the other side: one byte changed in a copy")
    for item in tampered:
        say(f"  {item.what:<8} {item.path}" if item.broken else f"  {item.what:<8} NOT NOTICED")
        for verdict in item.broken:
            values = f" [expected {verdict.expected}, found {verdict.found}]" if verdict.expected else ""
            say(f"    {verdict.claim}: {verdict.detail}{values}")


def _line(after: str, name: str, text: str) -> str:
    return f"  {after:>7}  {name:<11} {text}"
