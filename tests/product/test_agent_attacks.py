"""What agents send that costs much: a worker has the memory and the time for it."""

import json
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.product.agent_server import line

MEGABYTE = 1024 * 1024
MEMORY = 700 * MEGABYTE  # a worker has 1024 MB, with Python and the SDK in it
ROOT = Path(__file__).parents[2]


def vendors(count: int) -> bytes:
    one = {"name": "Green Fern", "email": "a@example.com", "rating": 4.8, "price": 240}
    return json.dumps(
        {"response": "x", "vendors": [{"id": n, **one} for n in range(count)]}
    ).encode()


def emails(addresses: list[str]) -> bytes:
    """As many vendors as e-mails, at these addresses."""
    sent = [{"recipient": address, "body": "x" * 50} for address in addresses]
    at = [{"email": address} for address in addresses]
    return json.dumps({"response": "x", "vendors": at, "emails": sent}).encode()


def tool_calls(count: int) -> bytes:
    uses = ({"toolUse": {"name": "a", "toolUseId": str(number)}} for number in range(count))
    starts = (line({"event": {"contentBlockStart": {"start": use}}}) for use in uses)
    return b"".join(starts) + line("x")


def reprs(count: int) -> bytes:
    """What Strands sends with each word, on a long task: all of the agent's state."""
    state = repr([{"role": "user", "content": [{"text": "it's"}]}] * 400)
    one = "{'data': 'a ', 'delta': {'text': 'a '}, 'agent': <x.Agent object at 0x7f>, 'm': %s}"
    return line(one % state) * count


BIG: dict[str, Callable[[], bytes]] = {
    "31 MB of ones": lambda: b'{"quotes":[' + b"1," * (15 * MEGABYTE) + b"1]}",
    "31 MB of nests": lambda: b"[" + b",".join([b"[" * 480 + b"]" * 480] * 32_000) + b"]",
    "31 MB of text": lambda: json.dumps({"response": "é" * (15 * MEGABYTE)}).encode()[:31_000_000],
    "31 MB of commas in a text": lambda: b'{"response":"' + b"," * (31 * MEGABYTE) + b'"}',
    "31 MB of quotes in a text": lambda: b'{"response":"' + b'\\",' * (10 * MEGABYTE) + b'"}',
    "a text that never ends": lambda: b'{"response":"' + b'\\",' * (10 * MEGABYTE),
    "31 MB of empty texts": lambda: b'""' * (15 * MEGABYTE),
    "31 MB of vendors": lambda: vendors(290_000),
    "the most vendors": lambda: vendors(99_000),
    "vendors at the end of a text": lambda: json.dumps(
        f"Here:\n```json\n{vendors(140_000).decode()}\n```"
    ).encode(),
    "braces": lambda: json.dumps("{ " * (10 * MEGABYTE) + "}").encode(),
    "a repr of many objects": lambda: json.dumps("{'a': [" + "A(x=1)," * 28_000 + "]}").encode(),
    "a repr of a text that never ends": lambda: json.dumps("{'" + "\\'" * 99_000 + "}").encode(),
    "a repr in a repr": lambda: json.dumps("{'a': " + "A(x=" * 49_000 + "}").encode(),
    "e-mails to all": lambda: emails([f"v{number}@example.com" for number in range(60_000)]),
    "e-mails to one": lambda: emails(["a@example.com"] * 60_000),
    "tool calls": lambda: tool_calls(60_000),
    "reprs with each word": lambda: reprs(1_000),
    "objects that never end": lambda: b"data: {\n" * 500_000 + b"\n" + line("x"),
    "ends of lines": lambda: b"\r" * (2 * MEGABYTE) + line("x"),
}
READS_WITHIN_LIMITS = """
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, ({memory}, {memory}))
from valro.agent.answers import AgentError
from valro.agent.reader import AgentReader
from tests.product.test_agent_attacks import BIG
for kind in ("application/json", "text/event-stream"):
    body = b"data: " * ("stream" in kind) + BIG[sys.argv[1]]()
    reader = AgentReader(kind, lambda _: None)
    try:
        for start in range(0, len(body), 65_536):
            reader.feed(body[start : start + 65_536])
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
