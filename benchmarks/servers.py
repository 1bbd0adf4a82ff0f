"""Answers like DynamoDB, Lambda and AgentCore, from memory, as fast as Python can.

It runs in its own process, so that its time is not a subject's, and listens with HTTP and with
HTTPS. The answers are canned but have the shape of the real ones: the headers (a CRC among them,
which botocore checks), and as many items as were asked for. It knows no conditions and keeps
nothing.

    python -m benchmarks.servers FOLDER     prints its ports as JSON, serves until stdin closes

FOLDER has the certificates that ``make_certificates`` wrote: ``bundle.pem`` is botocore's list of
roots and one more, so that a client loads as many as it would on AWS.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import botocore.httpsession
import trustme

from benchmarks.data import (
    NATIVE_TABLE,
    TASK_COUNT,
    make_task,
    running,
    to_item,
    to_native_item,
)
from valro.dynamodb_pages import LISTED_ATTRIBUTES

AGENT_ANSWER = {name: make_task(0)[name] for name in ("vendors", "quotes", "emails_sent")} | {
    "response": make_task(0)["agent_response"]
}


class Answers:
    """Canned answers, as bytes ready to send."""

    def __init__(self) -> None:
        items = [to_item(make_task(number)) for number in range(TASK_COUNT)]
        listed = [
            {name: item[name] for name in LISTED_ATTRIBUTES if name in item} for item in items
        ]
        # One key more than a page has, as a next page would begin with.
        tasks = [make_task(number) for number in range(TASK_COUNT + 1)]
        keys = [
            to_item({name: task[name] for name in ("id", "owner", "created_at")}) for task in tasks
        ]
        self.task = dynamodb({"Item": items[0]})
        self.listed = dynamodb({"Responses": {"valro-tasks": listed}, "UnprocessedKeys": {}})
        self.keys = dynamodb(
            {
                "Count": len(keys),
                "Items": keys,
                "LastEvaluatedKey": keys[-1],
                "ScannedCount": len(keys),
            }
        )
        self.scanned = dynamodb({"Count": len(items), "Items": items, "ScannedCount": len(items)})
        native = [to_native_item(make_task(number)) for number in range(TASK_COUNT)]
        self.scanned_native = dynamodb(
            {"Count": len(native), "Items": native, "ScannedCount": len(native)}
        )
        self.updated = dynamodb({"Attributes": to_item(running(make_task(0)))})
        self.empty = dynamodb({})
        self.invoked = http(202, b"", "")
        self.agent = http(200, json.dumps(AGENT_ANSWER).encode(), "application/json")
        self.no_such = http(404, b"{}", "application/json")

    def find(self, head: bytes, body: bytes) -> bytes:
        """The answer to a request of AWS's APIs."""
        if b"/invocations" in head[:400].split(b"\r\n", 1)[0]:
            return self.agent if b" /runtimes/" in head[:40] else self.invoked
        at = head.lower().find(b"x-amz-target: dynamodb_20120810.")
        if at < 0:
            return self.no_such
        operation = head[at + 32 : head.index(b"\r", at)]
        match operation:
            case b"GetItem":
                return self.task
            case b"Query":
                return self.keys
            case b"BatchGetItem":
                return self.listed
            case b"Scan" if NATIVE_TABLE.encode() in body:
                return self.scanned_native
            case b"Scan":
                return self.scanned
            case b"UpdateItem" if b"ALL_NEW" in body:
                return self.updated
            case b"PutItem" | b"UpdateItem":
                return self.empty
        return self.no_such


def dynamodb(value: object) -> bytes:
    """An answer of DynamoDB's."""
    body = json.dumps(value, separators=(",", ":")).encode()
    crc = f"x-amz-crc32: {zlib.crc32(body)}\r\n"
    return http(200, body, "application/x-amz-json-1.0", crc)


def http(status: int, body: bytes, content_type: str, headers: str = "") -> bytes:
    """An HTTP answer."""
    kind = f"Content-Type: {content_type}\r\n" if content_type else ""
    head = (
        f"HTTP/1.1 {status} OK\r\n"
        "Server: Server\r\n"
        "Date: Fri, 31 Oct 2025 12:00:00 GMT\r\n"
        f"{kind}"
        f"Content-Length: {len(body)}\r\n"
        "Connection: keep-alive\r\n"
        "x-amzn-RequestId: 0TQRS1M0O5MJ5Q3QF2QGKC1OKJVV4KQNSO5AEMVJF66Q9ASUAAJG\r\n"
        f"{headers}\r\n"
    )
    return head.encode() + body


class Stub:
    """What the connections share: the counters, and the process whose CPU time is looked at."""

    def __init__(self) -> None:
        self.answers = Answers()
        self.connections = 0
        self.requests = 0
        self.watched = 0
        self.agent_called: dict[str, float] = {}

    def control(self, path: str) -> bytes:
        """Answers the benchmark itself: /_watch/PID starts anew, /_counts tells."""
        if path.startswith("/_watch/"):
            self.watched = int(path.removeprefix("/_watch/"))
            self.connections, self.requests, self.agent_called = 0, 0, {}
        counts = {
            "connections": self.connections,
            "requests": self.requests,
            "agent_called": self.agent_called,
        }
        return http(200, json.dumps(counts).encode(), "application/json")

    def agent_begins(self) -> None:
        """Notes when the agent was called, by the clocks of the machine and of the subject."""
        if self.watched:
            # Linux's id of another process's CPU clock, as clock_getcpuclockid(3) makes it.
            cpu = time.clock_gettime((~self.watched << 3) | 2)
            self.agent_called = {"wall": time.monotonic(), "cpu": cpu}


class Connection(asyncio.Protocol):
    """One connection of HTTP/1.1, kept alive."""

    def __init__(self, stub: Stub) -> None:
        self.stub = stub
        self.buffer = b""
        self.transport: asyncio.Transport
        self.counted = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Takes the transport."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - for mypy
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Answers every request that is complete."""
        self.buffer += data
        while True:
            end = self.buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            head = self.buffer[:end]
            length = content_length(head)
            if len(self.buffer) < end + 4 + length:
                if b"100-continue" in head.lower():
                    self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                return
            body = self.buffer[end + 4 : end + 4 + length]
            self.buffer = self.buffer[end + 4 + length :]
            self.transport.write(self.answer(head + b"\r\n", body))

    def answer(self, head: bytes, body: bytes) -> bytes:
        """The answer to one request."""
        path = head.split(b" ", 2)[1]
        if path.startswith(b"/_"):
            return self.stub.control(path.decode())
        if path.startswith(b"/runtimes/"):
            self.stub.agent_begins()
        if not self.counted:
            self.counted = True
            self.stub.connections += 1
        self.stub.requests += 1
        return self.stub.answers.find(head, body)


def content_length(head: bytes) -> int:
    """The length of a request's body."""
    lower = head.lower()
    at = lower.find(b"\r\ncontent-length:")
    return int(lower[at + 17 :].split(b"\r\n", 1)[0]) if at >= 0 else 0


def make_certificates(folder: Path) -> None:
    """Writes key.pem, chain.pem, root.pem and bundle.pem, once."""
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / "bundle.pem").is_file():
        return
    authority = trustme.CA(key_type=trustme.KeyType.RSA)
    leaf = authority.issue_cert("127.0.0.1", key_type=trustme.KeyType.RSA)
    leaf.private_key_pem.write_to_path(folder / "key.pem")
    leaf.cert_chain_pems[0].write_to_path(folder / "chain.pem")
    authority.cert_pem.write_to_path(folder / "root.pem")
    roots = Path(botocore.httpsession.where()).read_bytes()
    (folder / "bundle.pem").write_bytes(roots + b"\n" + authority.cert_pem.bytes())


async def serve(folder: Path) -> None:
    """Serves until stdin is closed."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder / "chain.pem", folder / "key.pem")
    stub = Stub()
    loop = asyncio.get_running_loop()
    factory: Callable[[], Connection] = lambda: Connection(stub)  # noqa: E731 - one line is clearer
    plain = await loop.create_server(factory, "127.0.0.1", 0)
    secure = await loop.create_server(factory, "127.0.0.1", 0, ssl=context)
    ports = {
        "http": plain.sockets[0].getsockname()[1],
        "https": secure.sockets[0].getsockname()[1],
    }
    print(json.dumps(ports), flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1])))
