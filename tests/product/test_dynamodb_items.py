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

    def item(self) -> Any:
        """What a client reads of it that is made as the deployed one is."""
        client = aws.aws_client("dynamodb")
        read_answers_fast(client)
        return client.get_item(TableName="valro-tasks", Key={"id": {"S": "task-1"}})["Item"]


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeDynamoDB]:
    fake = FakeDynamoDB()
    monkeypatch.setattr("botocore.endpoint.time.sleep", lambda _: None)
    with serving(fake.handler) as address:
        monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", address)
        yield fake


@pytest.mark.parametrize("is_right", [False, True], ids=["wrong checksum", "right checksum"])
@pytest.mark.parametrize("garbled", [b"<html>", b"", GOOD[:-5], b"[]", b"\xff\xfe", b"7"])
def test_what_is_not_the_json_that_it_claims_to_be_is_asked_for_once_more(
    fake: FakeDynamoDB, garbled: bytes, is_right: bool
):
    """A claim would be lost for 16 minutes, a whole answer for good; and no empty answer is given,
    which would say that there is no such task.
    """
    fake.answers = [(garbled, is_right), (GOOD, True)]
    assert fake.item() == ITEM
    fake.answers = [(garbled, is_right)] * 3
    with pytest.raises(UnreadableReply):
        fake.item()
    assert fake.requests == 4
