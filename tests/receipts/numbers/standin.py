"""A stand-in for Numbers Protocol: its HTTP doors, and its register on a real EVM node with its own chain id.

It does what the service is known to do, and what it may do at its worst: it knows no idempotency key, so a request
that comes twice is carried out twice, and paid for twice. Every commit is a transaction, so the register counts.
"""

import base64
import hashlib
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.parser import BytesParser
from email.policy import HTTP
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

from eth_account import Account
from eth_account.messages import encode_defunct

from receipts.chain import abi
from receipts.committers.capture import Endpoints
from receipts.committers.erc7053 import commit_topics, decode_commit_data, encode_commit
from tests.receipts.chain.node import Node

TOKEN = "ada-may-commit-0123456789"
STRANGER = "mallory-has-a-token-too"
WALLET = "0x51130dB91B91377A24d6Ebeb2a5fC02748b53ce1"
COMMITTER = Account.from_key("0x" + "77" * 32)  # who signs asset trees; the wallet's own key is not known here
REGISTER = json.loads((Path(__file__).parents[2] / "benchmarks/StoredRegister.json").read_text())
REQUIRED = ("encodingFormat", "assetCid", "assetTimestampCreated", "assetCreator", "assetSha256")
NUM = 10**18


class Answer(Exception):
    """Ends a request with this status and body."""

    def __init__(self, status: int, body: Any) -> None:
        super().__init__(status)
        self.status = status
        self.body = body


def cid_of(data: bytes) -> str:
    """Name bytes as IPFS does: written from the specification, not with the house's own code."""
    raw = bytes.fromhex("01551220") + hashlib.sha256(data).digest()
    return "b" + base64.b32encode(raw).decode().rstrip("=").lower()


@dataclass
class Faults:
    """What goes wrong, and when. `plan` looks at each request and names a fault or none.

    before      the line breaks before anything was done      after       …once it was done
    error       HTTP 500 before anything was done             error-after …once it was done
    slow        done, but the answer doesn't come in time     throttle    HTTP 429
    """

    plan: Callable[[str, str], str | None] = lambda method, path: None
    met: list[str] = field(default_factory=list)


@dataclass
class Service:
    """The service's memory: accounts, assets, trees, work under way. Commits stand in the register alone."""

    node: Node
    register: str
    url: str = ""
    slow_work: int = 0  # how often a workflow is asked for before its transaction is made
    work_fails: bool = False
    hidden: bool = False  # whether the history lags behind
    balances: dict[str, int] = field(default_factory=lambda: {TOKEN: 1_000 * NUM, STRANGER: 1_000 * NUM})
    assets: dict[str, dict[str, Any]] = field(default_factory=dict)
    owners: dict[str, str] = field(default_factory=dict)
    trees: dict[str, bytes] = field(default_factory=dict)
    work: dict[str, dict[str, Any]] = field(default_factory=dict)
    requests: list[tuple[str, str]] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    faults: Faults = field(default_factory=Faults)
    over: threading.Event = field(default_factory=threading.Event)
    lock: Any = field(default_factory=threading.RLock)

    def endpoints(self) -> Endpoints:
        """Give the addresses of its four doors."""
        return Endpoints(
            api=f"{self.url}/api/v3", commit=f"{self.url}/nit", history=f"{self.url}/history", tree=f"{self.url}/tree"
        )

    def commits(self, asset: str) -> list[dict[str, Any]]:
        """Read an asset's commits from the register itself."""
        topics = commit_topics(asset_cid=asset)
        logs = self.node.ask("eth_getLogs", {"address": self.register, "fromBlock": "0x0", "topics": topics})
        return [
            {
                **json.loads(decode_commit_data(bytes.fromhex(log["data"][2:]))),
                "txHash": log["transactionHash"],
                "recorder": "0x" + log["topics"][1][-40:],
            }
            for log in logs
        ]

    def count(self) -> int:
        """Count every commit on the register, of whatever asset."""
        logs = self.node.ask(
            "eth_getLogs", {"address": self.register, "fromBlock": "0x0", "topics": commit_topics()[:1]}
        )
        return len(logs)

    def sends(self) -> list[tuple[str, str]]:
        """Give the requests that asked for a commit."""
        return [(method, path) for method, path in self.requests if is_send(method, path)]

    # --- the doors -----------------------------------------------------------------------------------

    def answer(self, method: str, path: str, query: dict[str, str], headers: Any, body: bytes) -> tuple[int, Any]:
        """Answer one request."""
        token = headers.get("Authorization", "").removeprefix("token ")
        if not token:
            raise Answer(401, {"detail": "Authentication credentials were not provided."})
        if token not in self.balances:
            raise Answer(401, {"detail": f"Invalid token: {token}"})  # a service may repeat what it was told
        parts = [part for part in path.split("/") if part]
        match (method, parts):
            case ("POST", ["api", "v3", "assets"]):
                return self.post_asset(token, *read_form(headers, body))
            case ("GET", ["api", "v3", "assets", nid]):
                return 200, self.asset(nid)
            case ("PATCH", ["api", "v3", "assets", nid]):
                return self.patch_asset(token, nid, read_form(headers, body)[0])
            case ("GET", ["api", "v3", "workflows", name]):
                return 200, {"id": name, "status": self.work_on(name)}
            case ("POST", ["nit"]):
                return self.post_commit(token, json.loads(body))
            case ("GET", ["history"]):
                return 200, {"nid": query["nid"], "commits": [] if self.hidden else self.commits(query["nid"])}
            case ("POST", ["tree"]):
                return 200, {"mergedAssetTree": self.merged(json.loads(body)), "assetTrees": []}
        raise Answer(404, {"detail": "Not found."})

    def asset(self, nid: str) -> dict[str, Any]:
        """Read an asset."""
        if nid not in self.assets:
            raise Answer(404, {"detail": "Not found."})
        return self.assets[nid]

    def post_asset(self, token: str, form: dict[str, str], file: tuple[str, str, bytes] | None) -> tuple[int, Any]:
        """Register an asset: it is there at once, its commit is made by work that goes on."""
        if file is None or not file[2]:
            raise Answer(400, {"asset_file": ["No file was submitted."]})
        require_form(form)
        name, mime, content = file
        require_signature(form, content)
        self.pay(token)
        nid = cid_of(content)
        work = str(uuid4())
        self.owners.setdefault(nid, token)
        self.assets[nid] = {
            "id": nid,
            "cid": nid,
            "asset_file_name": name,
            "asset_file_mime_type": mime,
            "caption": form.get("caption", ""),
            "headline": form.get("headline", ""),
            "nit_commit_custom": json.loads(form.get("nit_commit_custom", "{}")),
            "post_creation_workflow_id": work,
        }
        tree = {
            "assetCid": nid,
            "assetSha256": hashlib.sha256(content).hexdigest(),
            "mimeType": mime,
            "caption": form.get("caption", ""),
            "headline": form.get("headline", ""),
            "creatorName": "Ada",
            **self.assets[nid]["nit_commit_custom"],
        }
        self.work[work] = {"nid": nid, "tree": tree, "asked": 0, "status": "PENDING"}
        if not self.slow_work:
            self.work_on(work)
        return 201, self.assets[nid]

    def work_on(self, name: str) -> str:
        """Let a workflow go on, each time that it is asked for."""
        if name not in self.work:
            raise Answer(404, {"detail": "Not found."})
        work = self.work[name]
        work["asked"] += 1
        if work["status"] == "PENDING" and work["asked"] > self.slow_work:
            if self.work_fails:
                work["status"] = "FAILURE"
            else:
                self.write(work["nid"], work["tree"], abstract=work["tree"]["caption"])
                work["status"] = "SUCCESS"
        return str(work["status"])

    def patch_asset(self, token: str, nid: str, form: dict[str, str]) -> tuple[int, Any]:
        """Change an asset: one more commit."""
        asset = self.asset(nid)
        self.require_owner(token, nid)
        require_form(form)
        self.pay(token)
        asset |= {name: form[name] for name in ("caption", "headline") if name in form}
        custom = json.loads(form.get("nit_commit_custom", "{}"))
        tree = {"assetCid": nid, "caption": asset["caption"], "headline": asset["headline"], **custom}
        self.write(nid, tree, abstract=form.get("commit_message", ""))
        return 200, asset

    def post_commit(self, token: str, body: dict[str, Any]) -> tuple[int, Any]:
        """Commit on an asset, whether or not it was registered here."""
        missing = [name for name in REQUIRED if name not in body]
        if missing:
            raise Answer(400, {"error": {"type": "ValidationError", "message": f"{missing[0]} is required"}})
        if not isinstance(body["assetTimestampCreated"], int):
            raise Answer(400, {"message": "assetTimestampCreated must be an integer"})
        self.require_owner(token, body["assetCid"])
        self.pay(token)
        self.owners.setdefault(body["assetCid"], token)
        tree = {name: value for name, value in body.items() if name not in ("commitMessage", "custom", "testnet")}
        written = self.write(body["assetCid"], tree | body.get("custom", {}), abstract=body.get("commitMessage", ""))
        return 200, {**written, "assetCid": body["assetCid"], "order_id": str(uuid4())}

    def merged(self, wanted: list[dict[str, Any]]) -> dict[str, Any]:
        """Merge asset trees, the later over the earlier."""
        found: dict[str, Any] = {}
        for item in sorted(wanted, key=lambda each: each["timestampCreated"]):
            if item["assetTreeCid"] not in self.trees:
                raise Answer(404, {"message": "asset tree not found"})
            found |= json.loads(self.trees[item["assetTreeCid"]])
        return found

    def require_owner(self, token: str, nid: str) -> None:
        """Refuse what is another account's."""
        if self.owners.get(nid, token) != token:
            raise Answer(403, {"detail": "You do not have permission to perform this action."})

    def pay(self, token: str) -> None:
        """Take the price of a commit."""
        if self.balances[token] < NUM // 10:
            raise Answer(400, {"error": {"type": "PaymentError", "message": "Insufficient NUM balance"}})
        self.balances[token] -= NUM // 10

    def write(self, nid: str, tree: dict[str, Any], *, abstract: str) -> dict[str, str]:
        """Put a tree away and commit it on the register, from the service's wallet."""
        raw = json.dumps(tree, indent=2).encode()
        cid = cid_of(raw)
        self.trees[cid] = raw
        digest = hashlib.sha256(raw).hexdigest()
        signature = COMMITTER.sign_message(encode_defunct(text=digest)).signature.hex()
        said = {
            "assetTreeCid": cid,
            "assetTreeSha256": digest,
            "assetTreeSignature": signature,
            "author": COMMITTER.address,
            "committer": COMMITTER.address,
            "provider": "stand-in",
            "timestampCreated": self.node.head() + 1_700_000_000,
            "action": "https://example.org/actions#commit",
            "actionResult": "",
            "abstract": abstract,
        }
        data = encode_commit(nid, json.dumps(said, separators=(",", ":")))
        sent = {"from": WALLET, "to": self.register, "data": "0x" + data.hex(), "gas": hex(3_000_000)}
        tx_hash = self.node.ask("eth_sendTransaction", sent)
        self.node.mine()
        assert self.node.ask("eth_getTransactionReceipt", tx_hash)["status"] == "0x1"
        return {"txHash": tx_hash, "assetTreeCid": cid}


def is_send(method: str, path: str) -> bool:
    """Tell the requests that cost from those that only look."""
    return method in ("POST", "PATCH") and not path.startswith("/tree")


def require_form(form: dict[str, str]) -> None:
    """Refuse what the form of an asset may not hold."""
    if len(form.get("headline", "")) > 25:
        raise Answer(400, {"headline": ["Ensure this field has no more than 25 characters."]})
    try:
        json.loads(form.get("nit_commit_custom", "{}"))
    except ValueError:
        raise Answer(400, {"nit_commit_custom": ["Value must be valid JSON."]}) from None


def require_signature(form: dict[str, str], content: bytes) -> None:
    """Refuse a signature that doesn't fit the file. Signers differ in the blanks of the metadata, so both count."""
    if "signature" not in form:
        return
    metadata = form["signed_metadata"]
    compact = json.dumps(json.loads(metadata), separators=(",", ":"))
    for signed in json.loads(form["signature"]):
        digests = {hashlib.sha256(text.encode()).hexdigest() for text in (metadata, compact)}
        text = encode_defunct(text=signed["integritySha"])
        signer = Account.recover_message(text, signature=bytes.fromhex(signed["signature"].removeprefix("0x")))
        if (
            signed["integritySha"] not in digests
            or signer.lower() != signed["publicKey"].lower()
            or signed["proofHash"] != hashlib.sha256(content).hexdigest()
        ):
            raise Answer(400, {"signature": ["Invalid signature."]})


def read_form(headers: Any, body: bytes) -> tuple[dict[str, str], tuple[str, str, bytes] | None]:
    """Read a form, in either of its two spellings; the file as its name, type and bytes."""
    kind = headers.get("Content-Type", "")
    if not kind.startswith("multipart/form-data"):
        return {name: values[-1] for name, values in parse_qs(body.decode(), keep_blank_values=True).items()}, None
    message = BytesParser(policy=HTTP).parsebytes(f"Content-Type: {kind}\r\n\r\n".encode() + body)
    form: dict[str, str] = {}
    file = None
    for part in message.iter_parts():
        content = part.get_payload(decode=True)
        name = part.get_param("name", header="content-disposition")
        filename = part.get_filename()
        assert isinstance(content, bytes)
        assert isinstance(name, str)
        if filename is not None:
            assert name == "asset_file"
            file = (filename, part.get_content_type(), content)
        else:
            form[name] = content.decode()
    return form, file


@contextmanager
def running_service(node: Node) -> Iterator[Service]:
    """Deploy the register, then serve until the block ends."""
    node.fund(WALLET, 10_000 * NUM)
    node.ask("anvil_impersonateAccount", WALLET)
    deployed = node.ask("eth_sendTransaction", {"from": WALLET, "data": REGISTER["bytecode"], "gas": hex(3_000_000)})
    node.mine()
    service = Service(node, node.ask("eth_getTransactionReceipt", deployed)["contractAddress"])
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler_of(service))
    server.daemon_threads = True
    service.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        yield service
    finally:
        service.over.set()
        server.shutdown()
        server.server_close()


def handler_of(service: Service) -> type[BaseHTTPRequestHandler]:
    """Make the class that reads requests, meets faults and writes answers."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            address = urlsplit(self.path)
            fault = service.faults.plan(self.command, address.path)
            if fault:
                service.faults.met.append(fault)
            if fault == "before":
                return self._hang_up()
            if fault == "error":
                return self._answer(500, {"message": "Internal Server Error"})
            if fault == "throttle":
                return self._answer(429, {"detail": "Request was throttled. Expected available in 5 seconds."})
            query = {name: values[-1] for name, values in parse_qs(address.query).items()}
            with service.lock:
                service.requests.append((self.command, address.path))
                service.bodies.append(body)
                try:
                    status, told = service.answer(self.command, address.path, query, self.headers, body)
                except Answer as refusal:
                    status, told = refusal.status, refusal.body
            if fault == "after":
                return self._hang_up()
            if fault == "error-after":
                return self._answer(502, "<html>Bad Gateway</html>")
            if fault == "slow":
                service.over.wait(timeout=30)
                return self._hang_up()
            return self._answer(status, told)

        def do_GET(self) -> None:
            """Read something."""
            self._serve()

        def do_POST(self) -> None:
            """Make something, or read a tree."""
            self._serve()

        def do_PATCH(self) -> None:
            """Change something."""
            self._serve()

        def _hang_up(self) -> None:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)

        def _answer(self, status: int, told: Any) -> None:
            content = json.dumps(told).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it so
            """Say nothing."""

    return Handler


def blocks_of(service: Service, asset: str) -> list[int]:
    """Ask the register for the blocks of an asset's commits."""
    call = {"to": service.register, "data": "0x" + abi.call("getCommits(string)", abi.string(asset)).hex()}
    data = bytes.fromhex(service.node.ask("eth_call", call, "latest")[2:])
    return [abi.uint_at(data, place) for place in abi.words_at(data, 0)]
