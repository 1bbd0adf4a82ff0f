"""The thread that a call of the agent runs on: what ends it is handed over, and nothing is lost with it."""

import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import botocore.session
import pytest

from tests.product.agent_server import ARN
from valro.agent.answers import AgentLost
from valro.agent.runtime import AgentRequest, AgentRuntime, Background

ENOUGH = 10.0


def test_a_call_that_was_given_up_ends_its_thread_and_its_connection():
    closed = threading.Event()

    def items() -> Iterator[int]:
        try:
            yield from range(1_000_000)
        finally:
            closed.set()

    call = Background(items())
    assert [call.next(ENOUGH), call.next(ENOUGH)] == [0, 1]
    time.sleep(0.05)  # so that it waits for somebody to take what it has
    call.abandon()
    assert closed.wait(ENOUGH)


@pytest.mark.parametrize("kind", [ValueError, SystemExit, KeyboardInterrupt, GeneratorExit])
def test_whatever_ends_it_is_handed_over_at_once(kind: type[BaseException]):
    """Also what would end a process, and else would be waited for until the deadline."""

    def items() -> Iterator[str]:
        yield "said"
        raise kind("out of it")

    call = Background(items())
    assert call.next(ENOUGH) == "said"
    with pytest.raises(Exception, match="out of it") as caught:
        call.next(ENOUGH)
    assert isinstance(caught.value, kind if kind is ValueError else RuntimeError)


@pytest.mark.parametrize("kind", [KeyError, SystemExit])
def test_an_exception_in_the_middle_of_a_stream_keeps_what_was_read(kind: type[BaseException]):
    """Of whatever kind: of urllib3's, of a parser's, of ours."""

    def items() -> Iterator[Any]:
        yield {"contentType": "text/event-stream"}
        for each in ({"message": "Looking"}, {"vendors": [{"name": "Ann"}]}):
            yield f"data: {json.dumps(each)}\n\n".encode()
        yield b'data: "half a fr'
        raise kind("out of it")

    session = botocore.session.Session()
    agent = AgentRuntime(session, ARN, background=lambda _: Background(items()))
    said: list[str] = []
    with pytest.raises(AgentLost) as caught:
        agent.run(AgentRequest("t-1", "Find me a painter"), ENOUGH, said.append)

    assert said == ["Looking"]
    assert "out of it" in caught.value.detail
    assert caught.value.partial is not None
    assert caught.value.partial.vendors == [{"name": "Ann", "emails": []}]
    assert caught.value.unparsed == 'data: "half a fr'
