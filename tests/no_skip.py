"""A pytest plugin that counts a skipped test as a failure, for CI, where nothing may be missing.

Used as ``python -m pytest -p tests.no_skip``.
"""

import pytest


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fails the run if a test was skipped, whatever else happened."""
    if skipped_tests(session.config) and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Says why a run without a failed test fails."""
    if skipped := skipped_tests(config):
        terminalreporter.write_line(f"{skipped} skipped, which counts as a failure here.", red=True)


def skipped_tests(config: pytest.Config) -> int:
    """Returns how many tests or modules were skipped."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    return len(reporter.stats.get("skipped", ())) if reporter else 0
