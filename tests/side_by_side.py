"""Which tests run on which process, and in which order, where there are several processes."""

import os

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

# They begin first, so that none of them is left alone at the end.
LONGEST_FILES = (
    "tests/project/test_readme.py",
    "tests/api/test_faults.py",
    "tests/page/test_page.py",
    "tests/deployment/test_create_infrastructure.py",
    "tests/deployment/test_other_peoples_things.py",
    "tests/api/test_load.py",
    "tests/watcher/test_watcher.py",
    "tests/examples/test_frameworks.py",
)
# Each of their tests is for whichever process has nothing to do.
SHARE_NOTHING = (
    "tests/product/",
    "tests/simulation/",
    "tests/local/test_local.py",
    "tests/project/test_benchmarks.py",
)


class Files(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
    """Whole files, since the tests of a file share what they deploy; but for those that do not."""

    def _split_scope(self, nodeid: str) -> str:
        return nodeid if nodeid.startswith(SHARE_NOTHING) else nodeid.partition("::")[0]


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Files | None:
    """Takes the place of `--dist loadfile`."""
    if config.getvalue("dist") != "loadfile":
        return None
    config.option.loadscopereorder = False  # the order is that of the next function
    return Files(config, log)


def pytest_xdist_auto_num_workers() -> int:
    """One process more than processors: who deploys waits as much as he works."""
    return (os.cpu_count() or 1) + 1


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Has what takes long begin first."""
    items.sort(key=lambda item: (not item.get_closest_marker("e2e"), _place(item.nodeid)))


def _place(nodeid: str) -> int:
    file = nodeid.partition("::")[0]
    return LONGEST_FILES.index(file) if file in LONGEST_FILES else len(LONGEST_FILES)
