"""Stacks for the tests of the two operators' scripts."""

from collections.abc import Callable

import pytest

from local.aws import LocalStack
from tests.deployment.operators import Stack, copy_project

MakeStack = Callable[[str], Stack]


@pytest.fixture(scope="module")
def make_stack(ministack: LocalStack, tmp_path_factory: pytest.TempPathFactory) -> MakeStack:
    """Gives a stack of this prefix, not deployed yet, with a copy of the project of its own."""
    return lambda prefix: Stack(
        ministack, copy_project(tmp_path_factory.mktemp(prefix) / "it's a copy"), prefix
    )
