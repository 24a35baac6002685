"""What a create-job request costs beside a bare DRF view with one INSERT: one server, in turns, in one run.

Both go through gunicorn as the house runs it, and both commit to a PostgreSQL that waits for the disk, as the
house's does. Prints the median of the ratios; judges no time.
"""

import http.client
import json
import os
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path

import pytest

from config.embedded import postgres
from receipts.keys import make_key_file

WANTED = 0.6
ROUNDS = 9
ROUND_SECONDS = 1.5
WORKERS, THREADS = 2, 8
CLIENTS = WORKERS * THREADS
TENANTS = 64  # so many that none of them fills its queue, which is counted at each request
BODY = {"kind": "text-to-image", "inputs": {"prompt": "a red circle", "steps": 15, "seed": 7}}
MAKE_KEYS = """
import django
django.setup()
from jobs.accounts import make_api_key
from receipts.models import Tenant
for number in range({tenants}):
    print(make_api_key(tenant=Tenant.objects.create(id=f"tenant-{{number}}", name="Busy"), label="benchmark"))
"""

Environment = dict[str, str]


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[Environment]:
    """A house on a durable PostgreSQL of its own: migrated, with the hub's key, without a chain."""
    database = postgres.start(tmp_path, durable=True)
    make_key_file(tmp_path / "keys" / "hub.key", "ed25519")
    try:
        made = os.environ | {
            "DJANGO_SETTINGS_MODULE": "config.settings",
            "TALLYSTICK_DATA_DIR": str(tmp_path),
            "DATABASE_URL": database.superuser_url,
            "DATABASE_POOL": "on",
            "LOG_ORIGIN": "tests.invalid/benchmark",
            "CHAIN_RPC_URL": "",
            "RATE_LIMIT": "100000000/min",
            "LOG_LEVEL": "ERROR",
        }
        subprocess.run([sys.executable, "-m", "django", "migrate", "-v0"], env=made, check=True)
        yield made
    finally:
        database.stop()


@pytest.fixture
def port(environment: Environment) -> Iterator[int]:
    """Serve the house and the bare view, as the house serves itself."""
    with socket.socket() as asked:
        asked.bind(("127.0.0.1", 0))
        port: int = asked.getsockname()[1]
    options = {"bind": f"127.0.0.1:{port}", "workers": WORKERS, "worker-class": "gthread", "threads": THREADS}
    server = subprocess.Popen(
        [
            *(sys.executable, "-W", "ignore", "-m", "gunicorn", "--keep-alive=30"),
            *(f"--{name}={value}" for name, value in options.items()),
            "tests.benchmarks.wsgi",
        ],
        env=environment,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for(port, server)
        yield port
    finally:
        server.terminate()
        server.wait(20)


def wait_for(port: int, server: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + 60
    while True:
        assert server.poll() is None, "the server died"
        try:
            asked = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
            asked.request("GET", "/api/v1/problems")
            assert asked.getresponse().status == 200
            return
        except OSError:
            assert time.monotonic() < deadline, "the server did not come up"
            time.sleep(0.1)


def rate(port: int, address: str, callers: list[dict[str, str]]) -> float:
    """Post for a while from several connections that stay open, callers in turn; give requests a second."""
    done, refused = [0] * CLIENTS, list[int]()
    end = time.perf_counter() + ROUND_SECONDS
    body = json.dumps(BODY)

    def ask(who: int) -> None:
        asking = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        headers = cycle(callers[who::CLIENTS])
        while time.perf_counter() < end:
            asking.request("POST", address, body, next(headers))
            answer = asking.getresponse()
            answer.read()
            if answer.status != 201:
                refused.append(answer.status)
                break
            done[who] += 1
        asking.close()

    began = time.perf_counter()
    threads = [threading.Thread(target=ask, args=(who,)) for who in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not refused, refused
    return sum(done) / (time.perf_counter() - began)


def test_creating_a_job_beside_one_insert(
    port: int, environment: Environment, capsys: pytest.CaptureFixture[str]
) -> None:
    making = [sys.executable, "-c", MAKE_KEYS.format(tenants=TENANTS)]
    keys = subprocess.run(making, env=environment, check=True, capture_output=True, text=True).stdout.split()
    plain = {"Content-Type": "application/json"}
    bare, keyed = [plain] * CLIENTS, [plain | {"Authorization": f"Bearer {key}"} for key in keys]
    rate(port, "/bare", bare)
    rate(port, "/api/v1/jobs", keyed)
    pairs = [(rate(port, "/api/v1/jobs", keyed), rate(port, "/bare", bare)) for _ in range(ROUNDS)]
    jobs, inserts = (statistics.median(values) for values in zip(*pairs, strict=True))
    ratio = statistics.median(job / insert for job, insert in pairs)
    with capsys.disabled():
        print(f"\ncreate-job {jobs:.0f}/s, one INSERT {inserts:.0f}/s: {ratio:.2f}x (wanted >= {WANTED}x)")
    assert jobs > 0
