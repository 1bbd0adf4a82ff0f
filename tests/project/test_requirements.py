"""The requirements files: everything is pinned, and `make run` needs no more than its own file."""

import re
from importlib.metadata import requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]


def pins(name: str) -> dict[str, str]:
    text = (ROOT / name).read_text()
    found = re.findall(r"^([\w.-]+)(?:\[\w+\])?==([\w.]+)", text, re.MULTILINE)
    return {canonicalize_name(package): version for package, version in found}


def test_what_runs_here_calls_aws_with_the_sdk_that_is_deployed():
    assert pins("requirements.txt").items() <= pins("requirements-run.txt").items()


def test_every_requirement_of_the_zips_is_pinned_to_its_bytes():
    text = (ROOT / "requirements.txt").read_text()
    hashes = re.findall(r"--hash=sha256:[0-9a-f]{64}$", text, re.MULTILINE)
    assert len(hashes) == len(pins("requirements.txt")) > 0


def test_all_that_make_run_installs_is_pinned_and_the_other_file_adds_to_it():
    run, dev = pins("requirements-run.txt"), pins("requirements-dev.txt")
    assert "-r requirements-run.txt" in (ROOT / "requirements-dev.txt").read_text().splitlines()
    assert not run.keys() & dev.keys()
    for package in run:
        for needed in map(Requirement, requires(package) or ()):
            if needed.marker is None or needed.marker.evaluate({"extra": ""}):
                assert canonicalize_name(needed.name) in run, f"{package} needs {needed}"
