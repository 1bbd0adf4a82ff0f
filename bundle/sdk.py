"""The AWS SDK that requirements.txt pins, from a cache or from the package index."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

from bundle import BundleError

# What has no such hash, or would have to be built first, is not installed.
PIP_INSTALL = (
    *("-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check"),
    *("--require-hashes", "--no-deps", "--only-binary", ":all:", "--no-compile"),
)


def installed(requirements: Path, cache: Path, work: Path) -> Path:
    """Returns the folder of the installed SDK, which appears in the cache only when complete."""
    sdk = cache / hashlib.sha256(requirements.read_bytes()).hexdigest()[:16]
    if not sdk.is_dir():
        print(
            "Installing what requirements.txt pins (once; about 15 MB to fetch) ...",
            file=sys.stderr,
        )
        new = cache / f"new.{work.name}"  # deploy.sh removes what is left of it
        install(requirements, new, work)
        try:
            new.rename(sdk)
        except OSError as error:
            # Another build may have been faster: then the folder is there, and as good.
            if not sdk.is_dir():
                raise BundleError(f"There is no making {sdk}: {error.strerror}.") from error
    return sdk


def install(requirements: Path, folder: Path, work: Path) -> None:
    """Has pip install into a folder; a Python without pip gets it by way of a venv."""
    python = sys.executable
    if run(python, "-m", "pip", "--version").returncode:
        if run(python, "-m", "venv", str(work / "venv")).returncode:
            raise BundleError(
                f"{python} has no pip.\n  On Debian and Ubuntu: apt install python3-pip."
                f" Elsewhere: {python} -m ensurepip"
            )
        python = str(work / "venv/bin/python")
    pip = run(python, *PIP_INSTALL, "--target", str(folder), "--requirement", str(requirements))
    if pip.returncode:
        raise BundleError(
            f"pip could not install requirements.txt:\n{(pip.stdout + pip.stderr).strip()}\n"
            "  If it could not reach the package index, check the network or the proxy, and try again."
        )


def run(*command: str) -> subprocess.CompletedProcess[str]:
    """Runs a command to its end and keeps what it says."""
    # A user's own pip settings stay, for the index that they name, except those that would
    # contradict --target.
    environment = os.environ | {"PIP_USER": "0", "PIP_REQUIRE_VIRTUALENV": "0"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
