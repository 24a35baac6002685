"""The web process checks inputs without loading what only a worker needs."""

from __future__ import annotations

import subprocess
import sys


def test_importing_the_runners_loads_no_heavy_library() -> None:
    script = (
        "import sys; import jobs.runners, jobs.runners.text_to_image, jobs.runners.catalogue;"
        "jobs.runners.runner_for('text-to-image').schema.normalise({'prompt': 'a red circle'});"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "jobs" in loaded
    assert not loaded & {"torch", "diffusers", "transformers", "numpy", "PIL", "django", "celery"}
