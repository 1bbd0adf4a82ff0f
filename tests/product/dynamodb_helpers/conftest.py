"""A store, and what it stands on."""

from typing import Any

import pytest

from dynamodb_helpers import TaskStore
from tests.product.dynamodb_helpers.fakes import Clock, Network


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def network(dynamodb: Any, table_name: str) -> Network:
    return Network(dynamodb)


@pytest.fixture
def store(network: Network, table_name: str, clock: Clock) -> TaskStore:
    return TaskStore(network, table_name, clock=clock, sleep=lambda _: None)
