"""Drive a service with Numbers' own SDK, and tell what it saw as JSON. A program: the SDK is installed apart.

python sdk.py BASE_URL HISTORY_URL TREE_URL TOKEN REVOKED_TOKEN STRANGERS_TOKEN
"""

import json
import sys
from typing import Any


def told(act: Any) -> dict[str, Any]:
    """Tell the error that an act ends with, by the SDK's own class and code."""
    from numbersprotocol_capture.errors import CaptureError  # type: ignore[import-not-found]

    try:
        act()
    except CaptureError as error:
        return {"kind": type(error).__name__, "code": error.code, "said": error.message}
    return {"kind": "none"}


def main(base: str, history: str, tree: str, token: str, revoked: str, stranger: str) -> None:
    """Register, read, update, read back; then do what is refused."""
    from numbersprotocol_capture import Capture, client  # type: ignore[import-not-found]

    client.HISTORY_API_URL, client.MERGE_TREE_API_URL = history, tree
    with Capture(token=token, base_url=base) as ada, Capture(token=stranger, base_url=base) as mallory:
        signed = {"private_key": "0x" + "55" * 32}
        asset = ada.register(b'{"a":1}', filename="a.json", caption="by their SDK", headline="Theirs", sign=signed)
        again = ada.get(asset.nid)
        updated = ada.update(
            asset.nid, caption="changed", commit_message="said better", custom_metadata={"jobDetails": {"n": 2}}
        )
        commits = ada.get_history(asset.nid)
        merged = ada.get_asset_tree(asset.nid)
        seen = {
            "nid": asset.nid,
            "asset": [again.filename, again.mime_type, again.caption, again.headline],
            "updated": updated.caption,
            "transactions": [commit.tx_hash for commit in commits],
            "authors": [commit.author for commit in commits],
            "merged": {"sha256": merged.asset_sha256, "mime": merged.mime_type, "extra": merged.extra},
            "unknown": told(lambda: ada.get("bafkreinothing")),
            "foreign": told(lambda: mallory.update(asset.nid, caption="mine")),
            "revoked": told(lambda: Capture(token=revoked, base_url=base).get(asset.nid)),
            "empty": told(lambda: ada.register(b'{"a":2}', filename="b.json")),
        }
    print(json.dumps(seen))


if __name__ == "__main__":
    main(*sys.argv[1:])
