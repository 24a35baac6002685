"""A worker process of its own, which tests kill: `python -m tests.flow.one_worker`."""

import django

django.setup()

from jobs import worker  # noqa: E402

if __name__ == "__main__":
    print("working", flush=True)
    worker.work("bo")
