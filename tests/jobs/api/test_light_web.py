"""The web process carries no models: it starts quickly and stays small."""

import os
import subprocess
import sys

WEB = """
import sys
import config.wsgi
from django.test import Client
from django.urls import get_resolver
get_resolver().url_patterns
import config.problems
config.problems.table()
assert Client(headers={"Host": "localhost"}).get("/api/v1/openapi.json").status_code == 200
heavy = {"torch", "diffusers", "transformers", "numpy", "web3", "c2pa"} & set(sys.modules)
print(",".join(sorted(heavy)))
"""


def test_the_web_process_imports_neither_torch_nor_diffusers() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", WEB], capture_output=True, text=True, check=True, env=dict(os.environ)
    )
    assert done.stdout.strip() == ""
