"""What agents send that costs much, or that others send but the SDK does not: nothing is lost."""

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.product.agent_reading import read_frames, read_json, read_stream, read_whole
from tests.product.agent_server import STREAM, line
from valro.agent.answers import AgentFailed, Answer
from valro.agent.reader import AgentReader

MEGABYTE = 1024 * 1024
MEMORY = 700 * MEGABYTE  # a worker has 1024 MB, with Python and the SDK in it
ROOT = Path(__file__).parents[2]


def vendors(count: int) -> bytes:
    one = {"name": "Green Fern", "email": "a@example.com", "rating": 4.8, "price": 240}
    return json.dumps(
        {"response": "x", "vendors": [{"id": n, **one} for n in range(count)]}
    ).encode()


BIG: dict[str, Callable[[], bytes]] = {
    "10 MB of ones": lambda: b"[" + b"1," * (5 * MEGABYTE) + b"1]",
    "31 MB of ones": lambda: b'{"quotes":[' + b"1," * (15 * MEGABYTE) + b"1]}",
    "1.7 million ones": lambda: b'{"quotes":[' + b"1," * 1_700_000 + b"1]}",
    "1.7 million lists": lambda: (
        b'{"response":' + b"[" * 400 + b"[]," * 850_000 + b"1" + b"]" * 401
    ),
    "31 MB of nests": lambda: b"[" + b",".join([b"[" * 480 + b"]" * 480] * 32_000) + b"]",
    "31 MB of objects in objects": lambda: (
        b"[" + b",".join([b'{"":' * 400 + b"1" + b"}" * 400] * 15_000) + b"]"
    ),
    "31 MB of text": lambda: json.dumps({"response": "é" * (15 * MEGABYTE)}).encode()[:31_000_000],
    "31 MB of commas in a text": lambda: b'{"response":"' + b"," * (31 * MEGABYTE) + b'"}',
    "31 MB of quotes in a text": lambda: b'{"response":"' + b'\\",' * (10 * MEGABYTE) + b'"}',
    "a text that never ends": lambda: b'{"response":"' + b'\\",' * (10 * MEGABYTE),
    "31 MB of empty texts": lambda: b'""' * (15 * MEGABYTE),
    "31 MB of vendors": lambda: vendors(290_000),
    "vendors in a text": lambda: json.dumps(vendors(140_000).decode()).encode(),
    "vendors at the end of a text": lambda: json.dumps(
        f"Here:\n```json\n{vendors(140_000).decode()}\n```"
    ).encode(),
    "braces": lambda: json.dumps("{ " * (10 * MEGABYTE) + "}").encode(),
    "a repr of many objects": lambda: json.dumps("{'a': [" + "A(x=1)," * 28_000 + "]}").encode(),
    "a repr of a text that never ends": lambda: json.dumps("{'" + "\\'" * 99_000 + "}").encode(),
    "a repr in a repr": lambda: json.dumps("{'a': " + "A(x=" * 49_000 + "}").encode(),
}
READS_WITHIN_LIMITS = """
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, ({memory}, {memory}))
from valro.agent.answers import AgentError
from valro.agent.reader import AgentReader
from tests.product.test_agent_attacks import BIG
body = BIG[sys.argv[1]]()
for kind in ("application/json", "text/event-stream"):
    reader = AgentReader(kind, lambda _: None)
    try:
        reader.feed(b"data: " * ("stream" in kind) + body)
        reader.finish()
    except AgentError as error:
        assert error.unparsed
"""


@pytest.mark.e2e
@pytest.mark.parametrize("name", BIG)
def test_no_answer_takes_more_memory_or_time_than_a_worker_has(name: str):
    """Whatever of it is an answer, and whatever is not; twice, as JSON and as a stream's frame."""
    script = READS_WITHIN_LIMITS.format(memory=MEMORY)
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script, name],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before < 20


def seconds_to_read(body: bytes, reader: AgentReader) -> float:
    started = time.process_time()
    with suppress(AgentFailed):
        for start in range(0, len(body), 65_536):
            reader.feed(body[start : start + 65_536])
        reader.finish()
    return time.process_time() - started


def emails(count: int) -> bytes:
    """As many vendors as e-mails, each e-mail to another one."""
    addresses = [f"v{number}@example.com" for number in range(count)]
    sent = [{"recipient": address, "body": "x" * 50} for address in addresses]
    vendors = [{"email": address} for address in addresses]
    return json.dumps({"response": "x", "vendors": vendors, "emails": sent}).encode()


def emails_to_one(count: int) -> bytes:
    sent = [{"recipient": "a@x"}] * count
    return json.dumps(
        {"response": "x", "vendors": [{"email": "a@x"}] * count, "emails": sent}
    ).encode()


def calls(count: int) -> bytes:
    start = (
        '{"event": {"contentBlockStart": {"start": {"toolUse": {"name": "a", "toolUseId": "%d"}}}}}'
    )
    frames = "".join(f"data: {start % number}\n\n" for number in range(count))
    return frames.encode() + line("x")


def reprs(count: int) -> bytes:
    """What Strands sends with each word, on a long task: all of the agent's state."""
    state = repr([{"role": "user", "content": [{"text": "it's"}]}] * 400)
    one = "{'data': 'a ', 'delta': {'text': 'a '}, 'agent': <x.Agent object at 0x7f>, 'm': %s}"
    return line(one % state) * count


@pytest.mark.e2e
@pytest.mark.parametrize(
    "make, count, stream",
    [
        (emails, 4_000, False),  # 0.34 MB of e-mails took 2.6 s
        (emails_to_one, 20_000, False),
        (calls, 10_000, True),
        (reprs, 250, True),
        (
            lambda count: b"data: " + b"x" * count + b"\n\n" + line({"response": "x"}),
            4_000_000,
            True,
        ),
        (lambda count: b"data: {\n" * count + b"\n" + line("x"), 50_000, True),
        (lambda count: b"\r" * count + line("x"), 200_000, True),
    ],
)
def test_twice_as_much_takes_about_twice_as_long(
    make: Callable[[int], bytes], count: int, stream: bool
):
    def tries(size: int) -> Iterator[float]:
        body = make(size)
        return (seconds_to_read(body, reader()) for _ in range(3))

    def reader() -> AgentReader:
        return AgentReader(STREAM if stream else "application/json", lambda _: None)

    once = min(tries(count))
    assert once < 2
    assert any(twice < 3 * once + 0.1 for twice in tries(2 * count))


# --- what others than the SDK send ----------------------------------------------------------------


@pytest.mark.parametrize(
    "wire",
    [
        b'\xef\xbb\xbfdata: "Hello"\n\n',
        b'data: "Hello"\r\rdata: [DONE]\r\r',
        b'data: "Hello"\r\n\r\ndata: [DONE]\r\n\r\n',
        b'data: {\ndata: "response":\ndata: "Hello"\ndata: }\n\n',
        b'data: {\rdata:"response":\rdata:"Hello"}\r\r',
        b"event: message\nid: 7\nretry: 3\n: comment\n" + line("Hello") + b"data: [DONE]\n\n",
        b"data:\n\n" + line("Hello") + b"data: \n\ndata\n\n",
        b'database: 1\n:\n\ndata:"Hel"\n\ndata: "lo"',
    ],
)
def test_every_shape_of_an_event_stream_is_read(wire: bytes):
    for size in (1, 2, 3, len(wire)):
        stream = AgentReader(STREAM, lambda _: None)
        for start in range(0, len(wire), size):
            stream.feed(wire[start : start + size])
        assert stream.finish() == Answer("Hello")


@pytest.mark.parametrize("escaped", ["\\x", "\\N{no}", "\\d", "\\u12", "\n", "\\ud800", "\\"])
def test_what_looks_like_a_text_event_of_strands_breaks_nothing(escaped: str):
    answer, _ = read_frames(f"{{'data': 'a{escaped}b', 'delta': {{}}}}", "x")
    assert answer.agent_response.endswith("x")
    answer.agent_response.encode()


def test_one_price_that_is_no_number_costs_nothing_else():
    body = b'{"response": "x", "quotes": [{"price": NaN}, {"price": -Infinity}, {"price": 5}]}'
    for answer in (read_whole(body), read_stream(b"data: " + body)[0]):
        assert answer.quotes == [{"price": None}, {"price": None}, {"price": 5}]


@pytest.mark.parametrize("error", ["", None, " "])
def test_an_exception_without_text_is_a_failure_with_what_came_before(error: str | None):
    """TimeoutError(), AssertionError(), anyio.ClosedResourceError: half an answer is no success."""
    said = "An error occurred during streaming"
    frame = {"error": error, "error_type": "TimeoutError", "message": said}
    with pytest.raises(AgentFailed) as caught:
        read_frames("I wrote to ", frame)
    assert str(caught.value).startswith(said)
    assert caught.value.partial == Answer("I wrote to ")
    with pytest.raises(AgentFailed, match=said):
        read_json(frame)


@pytest.mark.parametrize(
    "sent",
    [
        {"seven": "Hello", "of": "nine"},
        [1, 2],
        5,
        "{'agent': <x.Agent object at 0x7f>, 'tokens': 5}",
        "<x.Agent object at 0x7f>",
        "{'a': " + "<x.Y object at 0x7f>, " * 50_000 + "}",
    ],
    ids=lambda sent: str(sent)[:30],
)
def test_what_nobody_understands_is_kept_for_the_log(sent: Any):
    with pytest.raises(AgentFailed) as caught:
        read_frames(sent)
    assert json.loads(caught.value.unparsed) == sent
    said = "a Python object" if isinstance(sent, str) else "ended without an answer"
    assert said in str(caught.value)
