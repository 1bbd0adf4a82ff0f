"""How a DynamoDB client's answers are read: on a real socket, whatever comes out of it."""

import json
import zlib
from collections.abc import Iterator
from typing import Any

import pytest

from tests.servers import Quiet, serving
from valro import aws
from valro.dynamodb_items import UnreadableReply, read_answers_fast

ITEM = {"id": {"S": "task-1"}, "n": {"N": "1"}, "bytes": {"B": "AP8="}}
GOOD = json.dumps({"Item": ITEM}).encode()


class FakeDynamoDB:
    """Answers each request with the next of ``answers``: a body, and its checksum if that is right."""

    def __init__(self) -> None:
        self.answers: list[tuple[bytes, bool]] = []
        self.requests = 0
        fake = self

        class Handler(Quiet):
            def reply(self) -> None:
                self.body()
                fake.requests += 1
                body, is_right = fake.answers.pop(0)
                self.send(200, body, x_amz_crc32=str(zlib.crc32(body if is_right else GOOD)))

        self.handler = Handler


@pytest.fixture
def dynamodb_fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeDynamoDB]:
    fake = FakeDynamoDB()
    with serving(fake.handler) as address:
        monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", address)
        yield fake


@pytest.fixture
def client(dynamodb_fake: FakeDynamoDB, monkeypatch: pytest.MonkeyPatch) -> Any:
    client = aws.aws_client("dynamodb")
    monkeypatch.setattr("botocore.endpoint.time.sleep", lambda _: None)
    read_answers_fast(client)
    return client


def get(client: Any) -> Any:
    return client.get_item(TableName="valro-tasks", Key={"id": {"S": "task-1"}})


def test_an_answer_is_handed_on_as_the_json_that_it_is(client: Any, dynamodb_fake: FakeDynamoDB):
    dynamodb_fake.answers = [(GOOD, True)]
    assert get(client)["Item"] == ITEM


@pytest.mark.parametrize("is_right", [False, True], ids=["wrong checksum", "right checksum"])
@pytest.mark.parametrize("garbled", [b"<html>", b"", GOOD[:-5], b"[]", b"\xff\xfe", b"7"])
def test_what_is_not_the_json_that_it_claims_to_be_is_asked_for_again(
    client: Any, dynamodb_fake: FakeDynamoDB, garbled: bytes, is_right: bool
):
    """A claim would be lost for 16 minutes, a whole answer for good."""
    dynamodb_fake.answers = [(garbled, is_right), (GOOD, True)]
    assert get(client)["Item"] == ITEM
    assert dynamodb_fake.requests == 2


@pytest.mark.parametrize("is_right", [False, True], ids=["wrong checksum", "right checksum"])
@pytest.mark.parametrize("garbled", [b"<html>", b"", b"[]"])
def test_what_is_unreadable_to_the_last_is_an_error_and_no_empty_answer(
    client: Any, dynamodb_fake: FakeDynamoDB, garbled: bytes, is_right: bool
):
    """An empty one would say that there is no such task."""
    dynamodb_fake.answers = [(garbled, is_right)] * 3
    with pytest.raises(UnreadableReply):
        get(client)
    assert dynamodb_fake.requests == 2
