"""What CI counts on: everything is pinned, and a skipped test is a failed run."""

import re
import subprocess
import sys
from importlib.metadata import requires
from pathlib import Path

import pytest
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


PASSING = "def test_passes():\n    pass\n"
SKIPPED = "import pytest\n\ndef test_is_skipped():\n    pytest.skip('no tool')\n"
SKIPPED_MODULE = "import pytest\n\npytest.importorskip('no_such_module')\n"
REFUSED = "1 skipped, which counts as a failure here."


@pytest.mark.e2e
@pytest.mark.parametrize(
    "other, exit_code, said",
    [("", 0, "1 passed"), (SKIPPED, 1, REFUSED), (SKIPPED_MODULE, 1, REFUSED)],
    ids=["passing", "skipped", "skipped module"],
)
def test_a_run_passes_only_if_no_test_was_skipped(
    tmp_path: Path, other: str, exit_code: int, said: str
) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    for number, text in enumerate((PASSING, other)):
        (tmp_path / f"test_{number}.py").write_text(text)
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "tests.no_skip", "--rootdir", tmp_path, tmp_path],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.returncode == exit_code
    assert said in result.stdout
