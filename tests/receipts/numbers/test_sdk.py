"""The stand-in is held to be faithful by Numbers' own SDK, which knows nothing of us.

It is installed beside the environment, not into it: it brings an HTTP client that nothing else here needs.
"""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from config.embedded import process
from receipts.canonical import nid
from tests.receipts.numbers.standin import COMMITTER, NUM, STRANGER, TOKEN, Service

pytestmark = pytest.mark.chain

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def sdk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the pinned SDK into a folder of its own."""
    folder = tmp_path_factory.mktemp("sdk")
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-input", "--disable-pip-version-check"]
    told = subprocess.run(
        [*pip, "--no-deps", "--require-hashes", "--target", str(folder), "-r", str(HERE / "sdk-requirements.txt")],
        capture_output=True,
        text=True,
        env=process.environment(),
        timeout=300,
    )
    if told.returncode and any(
        word in told.stderr for word in ("NewConnectionError", "No module named pip", "Max retries")
    ):
        pytest.skip("no package index can be reached, or there is no pip: Numbers' own SDK can't be had")
    assert told.returncode == 0, told.stderr
    return folder


def drive(service: Service, sdk: Path) -> dict[str, Any]:
    """Let the SDK do its round against the stand-in."""
    at = service.endpoints()
    told = subprocess.run(
        [sys.executable, str(HERE / "sdk.py"), at.api, at.history, at.tree, TOKEN, "revoked-token", STRANGER],
        capture_output=True,
        text=True,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(sdk), "NO_PROXY": "127.0.0.1"},
        timeout=120,
    )
    assert told.returncode == 0, told.stderr
    seen: dict[str, Any] = json.loads(told.stdout)
    return seen


def test_numbers_own_sdk_finds_in_the_stand_in_what_it_expects_of_the_service(service: Service, sdk: Path) -> None:
    service.balances[TOKEN] = NUM // 5  # for one registration and one update
    seen = drive(service, sdk)
    assert seen["nid"] == nid(b'{"a":1}')
    assert seen["asset"] == ["a.json", "application/json", "by their SDK", "Theirs"]
    assert seen["updated"] == "changed"
    assert seen["transactions"] == [commit["txHash"] for commit in service.commits(seen["nid"])]
    assert seen["authors"] == [COMMITTER.address] * 2
    assert seen["merged"]["sha256"] == hashlib.sha256(b'{"a":1}').hexdigest()
    assert seen["merged"]["mime"] == "application/json"
    assert seen["merged"]["extra"]["jobDetails"] == {"n": 2}
    kinds = {name: (seen[name]["kind"], seen[name]["code"]) for name in ("unknown", "foreign", "revoked")}
    assert kinds == {
        "unknown": ("NotFoundError", "NOT_FOUND"),
        "foreign": ("PermissionError", "PERMISSION_ERROR"),
        "revoked": ("AuthenticationError", "AUTHENTICATION_ERROR"),
    }
    # Its errors know `detail` and `message` alone; the nested shape reaches it as a bare 400.
    assert seen["empty"] == {
        "kind": "ValidationError",
        "code": "VALIDATION_ERROR",
        "said": "API request failed with status 400",
    }
