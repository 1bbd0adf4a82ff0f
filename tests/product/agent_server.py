"""A little AgentCore on 127.0.0.1 for fast tests: it plays a script and counts its calls.

It speaks HTTP as AgentCore does (chunked streams, error headers), so that what a test sees went
through the real botocore and a real socket.
"""

import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.servers import Quiet, serving

ARN = "arn:aws:bedrock-agentcore:us-west-2:123456789012:runtime/valro-AbCdEfGhIj"
STREAM = "text/event-stream; charset=utf-8"
LONGEST_SECONDS = 10.0  # after which a script that waits goes on by itself
DRIP_SECONDS = 0.02


@dataclass
class Call:
    """One request as it arrived."""

    operation: str
    arn: str
    session: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: bytes

    @property
    def payload(self) -> Any:
        return json.loads(self.body)


class Exchange(Quiet):
    """One connection; the methods below are what a script can do with it."""

    server: "AgentServer"

    def reply(self) -> None:
        length = int(self.headers.get("content-length") or 0)
        body = self.rfile.read(length)
        if len(body) < length:
            return  # cut off, so no agent can be started with it
        url = urlsplit(self.path)
        _, _, arn, operation = url.path.split("/")
        call = Call(
            operation,
            unquote(arn),
            self.headers["X-Amzn-Bedrock-AgentCore-Runtime-Session-Id"],
            parse_qs(url.query),
            dict(self.headers.items()),
            body,
        )
        self.close_connection = True
        self.server.script_of(call)(self)

    def begin(self) -> None:
        """Sends the head of a stream."""
        self.send_response(200)
        self.send_header("Content-Type", STREAM)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))

    def end(self) -> None:
        self.chunk(b"")

    def stall(self) -> None:
        """Says nothing more and holds the connection until the test is over."""
        self.server.clock.start()
        self.server.over.wait(LONGEST_SECONDS)

    def drip(self, data: bytes) -> None:
        """Sends the same little thing for ever, faster than any timeout between two bytes."""
        self.server.clock.start()
        while not self.server.over.wait(DRIP_SECONDS):
            self.wfile.write(data)

    def reset(self) -> None:
        """Breaks the connection off with a reset instead of an end."""
        linger = struct.pack("ii", 1, 0)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.wfile.close()
        self.rfile.close()
        self.connection.close()


Script = Callable[[Exchange], None]


class Clock:
    """Time that begins when there is nothing but waiting: what comes before may take any time."""

    def __init__(self) -> None:
        self.begins = time.monotonic() + LONGEST_SECONDS

    def start(self) -> None:
        self.begins = min(self.begins, time.monotonic())

    def monotonic(self) -> float:
        return max(time.monotonic() - self.begins, 0.0)


class AgentServer(ThreadingHTTPServer):
    """Plays ``scripts`` in their order, the last one for every further call."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Exchange)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.scripts: list[Script] = []
        self.stop_script: Script = sends_json({})
        self.calls: list[Call] = []
        self.over = threading.Event()
        self.clock = Clock()

    def play(self, *scripts: Script) -> None:
        self.scripts = list(scripts)

    def script_of(self, call: Call) -> Script:
        self.calls.append(call)
        if call.operation == "stopruntimesession":
            return self.stop_script
        return self.scripts.pop(0) if len(self.scripts) > 1 else self.scripts[0]

    @property
    def runs(self) -> list[Call]:
        """The calls that would have started the agent."""
        return [call for call in self.calls if call.operation == "invocations"]

    @property
    def stops(self) -> list[Call]:
        return [call for call in self.calls if call.operation == "stopruntimesession"]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Keeps quiet: a client that hangs up is what many tests are about."""


@contextmanager
def agent_server() -> Iterator[AgentServer]:
    server = AgentServer()
    with serving(server):
        try:
            yield server
        finally:
            server.over.set()


def line(frame: Any) -> bytes:
    """A frame as the SDK sends it: non-ASCII is not escaped."""
    return b"data: " + json.dumps(frame, ensure_ascii=False).encode() + b"\n\n"


def sends_json(value: Any) -> Script:
    return sends(json.dumps(value).encode())


def sends(body: bytes, content_type: str = "application/json") -> Script:
    return lambda exchange: exchange.send(200, body, Content_Type=content_type)


def sends_error(status: int, code: str = "", body: bytes = b'{"message":"no"}') -> Script:
    name = {"x_amzn_ErrorType": code} if code else {}
    return lambda exchange: exchange.send(status, body, Content_Type="application/json", **name)


def streams(*pieces: bytes, then: Script = Exchange.end) -> Script:
    """Sends each piece as a chunk of its own, and ends the stream or does something worse."""

    def script(exchange: Exchange) -> None:
        exchange.begin()
        for piece in pieces:
            exchange.chunk(piece)
        then(exchange)

    return script


def hangs_up(exchange: Exchange) -> None:
    """Closes the connection without another byte."""


def sends_raw(data: bytes, then: Script = hangs_up) -> Script:
    """Sends what need not be HTTP, or not all of an answer."""

    def script(exchange: Exchange) -> None:
        exchange.wfile.write(data)
        then(exchange)

    return script
