"""CI's rule that a skipped test is a failed run."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

PASSING = "def test_passes():\n    pass\n"
SKIPPED = "import pytest\n\ndef test_is_skipped():\n    pytest.skip('no tool')\n"
SKIPPED_MODULE = "import pytest\n\npytest.importorskip('no_such_module')\n"
FAILING = "def test_fails():\n    assert False\n"


@pytest.mark.e2e
@pytest.mark.parametrize(
    "files, exit_code, said",
    [
        ([PASSING], 0, "1 passed"),
        ([PASSING, SKIPPED], 1, "1 skipped, which counts as a failure here."),
        ([PASSING, SKIPPED_MODULE], 1, "1 skipped, which counts as a failure here."),
        ([PASSING, FAILING], 1, "1 failed, 1 passed"),
        ([], 5, "no tests ran"),
    ],
    ids=["passing", "skipped", "skipped module", "failing", "none"],
)
def test_a_run_passes_only_if_tests_ran_and_none_was_skipped(
    tmp_path: Path, files: list[str], exit_code: int, said: str
) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    for number, text in enumerate(files):
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
