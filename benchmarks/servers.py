"""Answers like DynamoDB, Lambda and AgentCore, from memory.

The subjects are other processes, so that this one's time is not theirs. The answers are canned but
have the shape of the real ones: the headers (a CRC among them, which botocore checks), and as many
items as were asked for. It knows no conditions and keeps nothing.
"""

from __future__ import annotations

import ssl
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import botocore.httpsession
import trustme

from benchmarks.data import (
    AGENT_ANSWER,
    LISTS_TABLE,
    TASK,
    TASK_COUNT,
    item_of,
    item_with_lists,
    make_task,
    running,
)
from valro.dynamodb_pages import LISTED_ATTRIBUTES
from valro.tasks import dumps


def http(status: int, body: bytes, content_type: str) -> bytes:
    """An HTTP answer."""
    head = (
        f"HTTP/1.1 {status} OK\r\n"
        "Server: Server\r\n"
        "Date: Fri, 31 Oct 2025 12:00:00 GMT\r\n"
        f"Content-Type: {content_type}\r\n"
        f"Content-Length: {len(body)}\r\n"
        "Connection: keep-alive\r\n"
        "x-amzn-RequestId: 0TQRS1M0O5MJ5Q3QF2QGKC1OKJVV4KQNSO5AEMVJF66Q9ASUAAJG\r\n"
        f"x-amz-crc32: {zlib.crc32(body)}\r\n\r\n"
    )
    return head.encode() + body


def answers() -> dict[str, bytes]:
    """What each operation is answered with, ready to send."""
    # One key more than a page has, as a next page would begin with.
    tasks = [make_task(number) for number in range(TASK_COUNT + 1)]
    items = [item_of(task) for task in tasks[:-1]]
    listed = [{name: item[name] for name in LISTED_ATTRIBUTES if name in item} for item in items]
    keys = [item_of({name: task[name] for name in ("id", "owner", "created_at")}) for task in tasks]
    page = {"Count": len(keys), "Items": keys, "LastEvaluatedKey": keys[-1]}
    bodies = {
        "GetItem": {"Item": items[0]},
        "Query": page | {"ScannedCount": len(keys)},
        "BatchGetItem": {"Responses": {"valro-tasks": listed}, "UnprocessedKeys": {}},
        "Scan": {"Count": len(items), "Items": items, "ScannedCount": len(items)},
        "Scan, own lists": {"Items": [item_with_lists(task) for task in tasks[:-1]]},
        "PutItem": {},
        "UpdateItem": {},
        "UpdateItem, ALL_NEW": {"Attributes": item_of(running(TASK))},
    }
    return {
        operation: http(200, dumps(body).encode(), "application/x-amz-json-1.0")
        for operation, body in bodies.items()
    } | {
        "agent": http(200, dumps(AGENT_ANSWER).encode(), "application/json"),
        "worker": http(202, b"", "application/json"),
    }


class Stub(ThreadingHTTPServer):
    """AWS, over HTTPS or without, and what it has noticed of the process that is looked at."""

    daemon_threads = True

    def __init__(self, certificates: Path | None) -> None:
        super().__init__(("127.0.0.1", 0), Connection)
        self.url = f"{'https' if certificates else 'http'}://127.0.0.1:{self.server_port}"
        if certificates:
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            context.load_cert_chain(certificates / "chain.pem", certificates / "key.pem")
            self.socket = context.wrap_socket(
                self.socket, server_side=True, do_handshake_on_connect=False
            )
        self.answers = answers()
        self.watch(0)

    def watch(self, pid: int) -> None:
        """Begins anew, with another process."""
        self.watched, self.connections, self.agent_called = pid, 0, 0.0


class Connection(BaseHTTPRequestHandler):
    """One connection, kept alive."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Stub

    def setup(self) -> None:
        """Counts the connection."""
        super().setup()
        self.server.connections += 1

    def do_POST(self) -> None:
        """Answers one request."""
        operation = self.headers.get("X-Amz-Target", "worker").rpartition(".")[2]
        if self.path.startswith("/runtimes/"):
            operation = "agent"
            # Linux's id of another process's CPU clock, as clock_getcpuclockid(3) makes it.
            self.server.agent_called = time.clock_gettime((~self.server.watched << 3) | 2)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if operation == "UpdateItem" and b"ALL_NEW" in body:
            operation = "UpdateItem, ALL_NEW"
        if operation == "Scan" and LISTS_TABLE.encode() in body:
            operation = "Scan, own lists"
        self.wfile.write(self.server.answers[operation])

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@contextmanager
def serving(certificates: Path | None) -> Iterator[Stub]:
    """Serves until the block ends."""
    with Stub(certificates) as stub:
        threading.Thread(target=stub.serve_forever, daemon=True).start()
        yield stub
        stub.shutdown()


def make_certificates(folder: Path) -> None:
    """Writes key.pem, chain.pem, root.pem and bundle.pem, once.

    ``bundle.pem`` is botocore's list of roots and one more, so that a client loads as many as it
    would on AWS.
    """
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
