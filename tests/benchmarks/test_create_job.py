"""What a create-job request costs beside a bare DRF view with one INSERT: one server, in turns, in one run.

Both go through gunicorn and commit to the run's PostgreSQL, which does not wait for the disk here: a disk that
does makes the ratio better, because both wait for it once. Prints the median of the ratios; judges no time.
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
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.db import connection

from tests.jobs.api.cast import Program
from tests.jobs.api.house import ada, house, house_folder  # noqa: F401  fixtures

WANTED = 0.6
ROUNDS = 9
ROUND_SECONDS = 1.5
CLIENTS = 4
BODY = {"kind": "text-to-image", "inputs": {"prompt": "a red circle", "steps": 15, "seed": 7}}


@pytest.fixture
def port(transactional_db: None, house: None, settings: Any) -> Iterator[int]:  # noqa: F811
    """Serve the house and the bare view by gunicorn, as the house serves itself."""
    with socket.socket() as asked:
        asked.bind(("127.0.0.1", 0))
        port = asked.getsockname()[1]
    # The server writes into the run's test database, not into the one that the run was given.
    given = urlsplit(os.environ["DATABASE_URL"])
    environment = os.environ | {
        "DATABASE_URL": given._replace(path="/" + connection.settings_dict["NAME"]).geturl(),
        "DATABASE_POOL": "on",
        "TALLYSTICK_KEYS_DIR": str(settings.KEYS_DIR),
        "STORE_DIR": str(settings.STORE_DIR),
        "TLOG_DIR": str(settings.TLOG_DIR),
        "LOG_ORIGIN": settings.LOG_ORIGIN,
        "CHAIN_RPC_URL": "",
        "QUEUE_LIMIT": "1000000",
        "RATE_LIMIT": "100000000/min",
        "LOG_LEVEL": "ERROR",
    }
    options = {
        "bind": f"127.0.0.1:{port}",
        "workers": 1,
        "worker-class": "gthread",
        "threads": CLIENTS,
        "keep-alive": 30,
    }
    server = subprocess.Popen(
        [
            *(sys.executable, "-W", "ignore", "-m", "gunicorn"),
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


def rate(port: int, address: str, headers: dict[str, str]) -> float:
    """Post for a while from several connections that stay open; give requests a second."""
    done, refused = [0] * CLIENTS, list[int]()
    end = time.perf_counter() + ROUND_SECONDS
    body = json.dumps(BODY)

    def ask(who: int) -> None:
        asking = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        while time.perf_counter() < end:
            asking.request("POST", address, body, headers)
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
    port: int,
    ada: Program,  # noqa: F811
    capsys: pytest.CaptureFixture[str],
) -> None:
    plain = {"Content-Type": "application/json"}
    keyed = plain | {"Authorization": f"Bearer {ada.key}"}
    rate(port, "/bare", plain)
    rate(port, "/api/v1/jobs", keyed)
    pairs = [(rate(port, "/api/v1/jobs", keyed), rate(port, "/bare", plain)) for _ in range(ROUNDS)]
    jobs, bare = (statistics.median(values) for values in zip(*pairs, strict=True))
    ratio = statistics.median(job / insert for job, insert in pairs)
    with capsys.disabled():
        print(f"\ncreate-job {jobs:.0f}/s, one INSERT {bare:.0f}/s: {ratio:.2f}x (wanted >= {WANTED}x)")
    assert jobs > 0
