"""What an audit with every signature costs beside a bare loop over the same bytes: one SHA-256, one Ed25519 check each.

In turns, in one process, in one run. Prints the median of the ratios; judges no time.
"""

import hashlib
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest
from nacl.signing import VerifyKey

from jobs.client.audit import audit
from jobs.client.auditing.source import source_at
from jobs.client.trust import Trust, read_trust
from receipts.canonical import encode, nid
from receipts.exported import Line, write_line
from tests.jobs.client.book import Book, tell_jobs, write_log
from tests.jobs.client.house import House, Keys

WANTED = 0.7
ROUNDS = 9
FULL = bool(os.environ.get("TALLYSTICK_TEST_FULL"))
JOBS = 600 if FULL else 60
MANY = 1_000_000 if FULL else 10_000
MEMORY_WANTED_MIB = 256
MEASURE = """
import sys
from pathlib import Path
from jobs.client import cli
code = cli.main(["audit", sys.argv[1], "--trust", sys.argv[2], "--json"])
# Not getrusage: its figure begins with that of the process that started this one.
lines = Path("/proc/self/status").read_text().splitlines()
print(next(line.split()[1] for line in lines if line.startswith("VmHWM")))
sys.exit(code)
"""


@pytest.fixture
def book(tmp_path: Path) -> Book:
    folder = tmp_path / "book"
    folder.mkdir()
    return Book(folder, tell_jobs(tmp_path, JOBS)).publish().export_all()


def bare(bodies: list[bytes], signatures: list[bytes], key: VerifyKey) -> float:
    began = time.perf_counter()
    for body, signature in zip(bodies, signatures, strict=True):
        hashlib.sha256(body).digest()
        key.verify(body, signature)
    return time.perf_counter() - began


def whole(book: Book, trust: Trust) -> float:
    began = time.perf_counter()
    done = audit(source_at(str(book.folder)), trust, receipts=book.export)
    spent = time.perf_counter() - began
    assert done.report.exit_code == 0
    return spent


def test_an_audit_beside_a_bare_loop(book: Book, capsys: pytest.CaptureFixture[str]) -> None:
    trust, signer = read_trust(book.trust.read_bytes()), Keys().hub
    signatures, key = [signer.sign(body) for body in book.bodies], VerifyKey(signer.public)
    whole(book, trust)
    pairs = [(bare(book.bodies, signatures, key), whole(book, trust)) for _ in range(ROUNDS)]
    count = len(book.bodies)
    rates = [count / statistics.median(times) for times in zip(*pairs, strict=True)]
    ratio = statistics.median(loop / audited for loop, audited in pairs)
    with capsys.disabled():
        print(f"\naudit {rates[1]:.0f} receipts/s, bare loop {rates[0]:.0f}/s: {ratio:.2f}x (wanted >= {WANTED}x)")
    assert ratio > 0


def test_the_memory_of_an_audit_of_a_long_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """So many receipts as real ones are long, of which none is signed: what counts is what is kept of each."""
    house = House(tmp_path)
    story = [item.body for item in house.tally.receipts if b'"jobId"' in item.body]
    entries: list[bytes] = []
    with (tmp_path / "receipts.jsonl").open("wb") as out:
        for leaf in range(MANY):
            number = leaf // len(story)
            body = story[leaf % len(story)].replace(b"000000000a", b"%010d" % number)
            name = nid(body)
            type_ = body.partition(b'"eventType":"')[2].partition(b'"')[0].decode()
            entries.append(encode({"eventType": type_, "nid": name, "v": 1}))
            out.write(write_line(Line(leaf, name, body)))
    write_log(tmp_path / "log", entries, house.keys)
    del entries
    Book(tmp_path, []).trust.write_bytes(encode(dict(house.trust().document)))
    began = time.perf_counter()
    given = [sys.executable, "-c", MEASURE, str(tmp_path), str(tmp_path / "trust.json")]
    done = subprocess.run(given, capture_output=True, text=True, check=False)
    assert done.returncode == 1, "copied claims name another job, and that is found"
    peak = int(done.stdout.splitlines()[-1]) // 1024
    with capsys.disabled():
        rate = MANY / (time.perf_counter() - began)
        print(f"\naudit of {MANY} receipts: {peak} MiB at most (wanted <= {MEMORY_WANTED_MIB} MiB), {rate:.0f}/s")
    assert peak <= MEMORY_WANTED_MIB
