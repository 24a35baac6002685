"""Check a house as a stranger does: with the C2SP texts, a node of the chain and the root key's fingerprint.

Not a line of Tallystick is used here, only what anyone has: HTTP, JSON, SHA-256, Ed25519, keccak.

Sources: RFC 6962 §2.1, RFC 8785, C2SP signed-note, tlog-checkpoint, tlog-tiles, ERC-7053, CIDv1.
"""

import base64
import hashlib
import json
from dataclasses import dataclass
from typing import Any

import requests
import sha3
from nacl.signing import VerifyKey

COMMIT_EVENT = "Commit(address,string,string)"


@dataclass(frozen=True)
class Found:
    """What the stranger has seen to hold."""

    size: int
    public_receipts: int
    anchors: int
    supply: int


def check(url: str, *, fingerprint: str, rpc_url: str) -> Found:
    """Follow everything from the root key's fingerprint; an assertion says what does not hold."""
    house = trusted_document(get(f"{url}/.well-known/tallystick.json").json(), fingerprint)
    note = get(f"{url}/tlog/checkpoint").text
    size, root = signed_checkpoint(note, house["log"]["vkey"])
    entries = all_entries(f"{url}/tlog", size)
    leaves = [hashlib.sha256(b"\x00" + entry).digest() for entry in entries]
    assert tree_head(leaves) == root
    seen = public_receipts(url, entries)
    anchors = check_anchors(rpc_url, house, leaves)
    minted = sum(int(receipt["data"]["amount"]) for receipt in seen if receipt["eventType"] == "TokensMinted")
    supply = int(
        ask(rpc_url, "eth_call", {"to": house["chain"]["token"], "data": "0x" + keccak("totalSupply()")[:8]}), 16
    )
    assert supply >= minted > 0
    attested = {receipt["data"]["receipt_hash"]: receipt["data"]["amount"] for receipt in seen if attests(receipt)}
    for receipt in seen:
        if receipt["eventType"] == "TokensMinted":
            assert attested[receipt["data"]["receipt_hash"]] == receipt["data"]["amount"]
    return Found(size, len(seen), anchors, supply)


def trusted_document(document: dict[str, Any], fingerprint: str) -> dict[str, Any]:
    """Check the root key's signature over the RFC 8785 bytes of the rest."""
    signature = document.pop("signature")
    public = unpadded(signature["key_id"])
    assert hashlib.sha256(public).hexdigest() == fingerprint
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    VerifyKey(public).verify(text.encode(), unpadded(signature["sig"]))
    return document


def signed_checkpoint(note: str, vkey: str) -> tuple[int, bytes]:
    """Check a note's signature by the log's key, and read size and root."""
    name, key_hash, key = vkey.split("+", 2)
    raw = base64.b64decode(key)
    assert raw[0] == 1  # Ed25519
    assert hashlib.sha256(name.encode() + b"\n" + raw).digest()[:4].hex() == key_hash
    text, _, signatures = note.rpartition("\n\n")
    text += "\n"
    [mine] = [line for line in signatures.splitlines() if line.startswith(f"— {name} ")]
    blob = base64.b64decode(mine.split(" ")[2])
    assert blob[:4].hex() == key_hash
    VerifyKey(raw[1:]).verify(text.encode(), blob[4:])
    origin, size, root = text.splitlines()[:3]
    assert origin == name
    return int(size), base64.b64decode(root)


def all_entries(tlog: str, size: int) -> list[bytes]:
    """Read every entry from its bundle: full ones, then the partial one."""
    entries: list[bytes] = []
    for index in range(-(-size // 256)):
        width = min(256, size - index * 256)
        path = f"{tlog}/tile/entries/{index:03d}" + (f".p/{width}" if width < 256 else "")
        data, at, found = get(path).content, 0, 0
        while at < len(data):
            length = int.from_bytes(data[at : at + 2])
            entries.append(data[at + 2 : at + 2 + length])
            at, found = at + 2 + length, found + 1
        assert found == width
        level0 = get(path.replace("/entries/", "/0/")).content
        assert level0 == b"".join(hashlib.sha256(b"\x00" + entry).digest() for entry in entries[-width:])
    return entries


def tree_head(leaves: list[bytes]) -> bytes:
    """MTH of RFC 6962 §2.1, word for word."""
    if not leaves:
        return hashlib.sha256().digest()
    if len(leaves) == 1:
        return leaves[0]
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return hashlib.sha256(b"\x01" + tree_head(leaves[:k]) + tree_head(leaves[k:])).digest()


def public_receipts(url: str, entries: list[bytes]) -> list[dict[str, Any]]:
    """Fetch what the log calls public, and see that each receipt's bytes have the name that the log gave them."""
    seen = []
    for entry in map(json.loads, entries):
        if entry["eventType"] not in ("UsageAttested", "TokensMinted", "KeyRotated"):
            continue
        body = get(f"{url}/api/v1/receipts/{entry['nid']}").content
        assert cid(body) == entry["nid"]
        receipt = json.loads(body)
        assert receipt["eventType"] == entry["eventType"]
        assert "tenant" not in receipt and "jobId" not in receipt
        seen.append(receipt)
    return seen


def check_anchors(rpc_url: str, house: dict[str, Any], leaves: list[bytes]) -> int:
    """Find the log's commits by its committer, and recompute the root that each one tells."""
    chain = house["chain"]
    assert int(ask(rpc_url, "eth_chainId"), 16) == chain["chain_id"]
    topics = [
        "0x" + keccak(COMMIT_EVENT),
        "0x" + chain["committer"][2:].rjust(64, "0"),
        "0x" + keccak(house["log"]["nid"]),
    ]
    logs = ask(rpc_url, "eth_getLogs", {"address": chain["register"], "fromBlock": "0x0", "topics": topics})
    told = [json.loads(abi_string(bytes.fromhex(log["data"][2:]))) for log in logs]
    for commit in told:
        assert commit["log"] == house["log"]["nid"]
        if commit["size"] <= len(leaves):
            assert base64.b64decode(commit["root"]) == tree_head(leaves[: commit["size"]])
    assert told
    return len(told)


def attests(receipt: dict[str, Any]) -> bool:
    return bool(receipt["eventType"] == "UsageAttested")


def cid(body: bytes) -> str:
    """CIDv1, raw, sha2-256, base32."""
    return "b" + base64.b32encode(b"\x01\x55\x12\x20" + hashlib.sha256(body).digest()).decode().rstrip("=").lower()


def abi_string(data: bytes) -> str:
    start = int.from_bytes(data[:32])
    length = int.from_bytes(data[start : start + 32])
    return data[start + 32 : start + 32 + length].decode()


def keccak(text: str) -> str:
    return str(sha3.keccak_256(text.encode()).hexdigest())


def unpadded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def get(url: str) -> requests.Response:
    answer = requests.get(url, timeout=20)
    assert answer.status_code == 200, (url, answer.status_code, answer.text[:300])
    return answer


def ask(rpc_url: str, method: str, *params: Any) -> Any:
    answer = requests.post(
        rpc_url, json={"jsonrpc": "2.0", "id": 1, "method": method, "params": list(params)}, timeout=20
    ).json()
    return answer["result"]
