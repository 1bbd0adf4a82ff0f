"""A store, and what it stands on."""

from typing import Any

import pytest

from dynamodb_helpers import (
    TaskStore,
)
from tests.product.dynamodb_helpers.fakes import BARE_TABLE, Clock, Network, no_index


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def network(dynamodb: Any, table_name: str) -> Network:
    return Network(dynamodb)


@pytest.fixture
def store(network: Network, table_name: str, clock: Clock) -> TaskStore:
    return TaskStore(network, table_name, clock=clock, sleep=lambda _: None)


@pytest.fixture
def bare(dynamodb: Any, clock: Clock) -> TaskStore:
    """A store on the table that is made by hand with a key and nothing else."""
    dynamodb.create_table(
        TableName=BARE_TABLE,
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        BillingMode="PAY_PER_REQUEST",
    )
    network = Network(dynamodb)
    network.always["query"] = no_index
    return TaskStore(network, BARE_TABLE, clock=clock, sleep=lambda _: None)
