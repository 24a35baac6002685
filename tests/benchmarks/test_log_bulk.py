"""What the log costs beside plain rows: bulk beside raw COPY, single writers beside INSERT, sequencing in the WAL.

On a PostgreSQL that waits for the disk, in turns, in one run. Prints the medians of the ratios; judges no time.
"""

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from config.embedded import postgres

WANTED_BULK = 0.80
WANTED_FSYNCS, WANTED_BYTES = 10, 400_000


def measured(folder: Path) -> dict[str, Any]:
    database = postgres.start(folder, durable=True)
    try:
        made = os.environ | {
            "DJANGO_SETTINGS_MODULE": "config.settings",
            "TALLYSTICK_DATA_DIR": str(folder),
            "DATABASE_URL": database.superuser_url,
            "CHAIN_RPC_URL": "",
            "LOG_LEVEL": "ERROR",
        }
        subprocess.run([sys.executable, "-m", "django", "migrate", "-v0"], env=made, check=True)
        running = [sys.executable, "-m", "tests.benchmarks.log_bulk", str(folder)]
        told = subprocess.run(running, env=made, check=True, stdout=subprocess.PIPE, text=True).stdout
    finally:
        database.stop()
    found: dict[str, Any] = json.loads(told)
    return found


def beside(ours: list[float], theirs: list[float]) -> str:
    ratio = statistics.median(one / other for one, other in zip(ours, theirs, strict=True))
    return f"{statistics.median(ours):,.0f}/s beside {statistics.median(theirs):,.0f}/s: {ratio:.2f}x"


def test_the_log_beside_plain_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = measured(tmp_path)
    bulk, single, wal = found["bulk"], found["single"], found["wal"]
    with capsys.disabled():
        print("\nbatches of 256, one commit each, beside raw COPY of the same bytes:")
        print(f"  written, sequenced, acknowledged: {beside(bulk['written'], bulk['copy'])} (wanted >= {WANTED_BULK}x)")
        print(f"  with the bytes made and checked:  {beside(bulk['whole'], bulk['copy'])}")
        print(f"64 writers beside a plain INSERT each: {beside(single['ours'], single['plain'])}")
        print(
            f"sequencing adds, a 1,000 receipts: {wal['fsyncs']:.1f} fsyncs (wanted <= {WANTED_FSYNCS}),"
            f" {wal['bytes'] / 1000:.0f} kB of WAL (wanted <= {WANTED_BYTES // 1000})"
        )
    assert all(len(rounds) >= 9 for kind in (bulk, single) for rounds in kind.values())
    assert wal["bytes"] > 0
