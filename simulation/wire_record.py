"""Makes every fault of the wire on real sockets, and writes down what the real clients make of it.

    python -m simulation.wire_record     writes simulation/wire_faults.json anew

The clients are the product's own, with their configuration but for shorter times, and TLS as to
AWS. The server here is whatever is at the other end: the service, or something in its place.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import ssl
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple
from unittest import mock

import botocore.endpoint
import botocore.session
import trustme
from botocore.config import Config
from botocore.exceptions import ClientError

import dynamodb_helpers
from simulation.wire import Row, write
from valro import aws
from valro.agent import runtime

# What a client waits, for a connection and for bytes, where nothing comes and where something must.
IMPATIENT = (0.15, 0.6)
PATIENT = (10.0, 10.0)
LONGEST_STALL = 10.0
DRIPS = 5
QUICK_AT_ONCE = 4
BEFORE_A_RESET = 0.1  # which takes with it what the other end has not read yet
ARN = "arn:aws:bedrock-agentcore:us-east-1:123456789012:runtime/valro-0123456789"
HTML = b"<html><body><h1>Bad Gateway</h1></body></html>"
ENDPOINTS = {
    "dynamodb": "AWS_ENDPOINT_URL_DYNAMODB",
    "lambda": "AWS_ENDPOINT_URL_LAMBDA",
    "agent": "AWS_ENDPOINT_URL_BEDROCK_AGENTCORE",
}
ITEM = {"id": {"S": "a"}}


# --- the operations -------------------------------------------------------------------------------


class Operation(NamedTuple):
    """A call that the product makes, and a good answer to it."""

    service: str
    name: str
    method: str
    arguments: dict[str, Any]
    answer: Any
    status: int = 200
    content_type: str = "application/x-amz-json-1.0"


_KEY = {"TableName": "valro-tasks", "Key": ITEM}
_SESSION = {"agentRuntimeArn": ARN, "runtimeSessionId": "s" * 40}
# Of the table's operations one, since what comes of a fault is the same for all of them.
OPERATIONS = (
    Operation("dynamodb", "UpdateItem", "update_item", _KEY, {"Attributes": ITEM}),
    Operation(
        "lambda",
        "Invoke",
        "invoke",
        {"FunctionName": "worker", "InvocationType": "Event", "Payload": "{}"},
        None,
        202,
        "",
    ),
    Operation(
        "agent",
        "InvokeAgentRuntime",
        "invoke_agent_runtime",
        _SESSION | {"payload": b"{}"},
        {"response": "Found.", "vendors": []},
        content_type="application/json",
    ),
    Operation(
        "agent",
        "InvokeAgentRuntime, streamed",
        "invoke_agent_runtime",
        _SESSION | {"payload": b"{}"},
        [{"message": "Searching"}, {"response": "Found."}],
        content_type="text/event-stream; charset=utf-8",
    ),
    Operation(
        "agent",
        "StopRuntimeSession",
        "stop_runtime_session",
        _SESSION,
        {"statusCode": 200},
        content_type="application/json",
    ),
)


# --- the faults -----------------------------------------------------------------------------------


class Fault(NamedTuple):
    """What happens to a call: an answer of some sort, how much of it is sent, and what comes then.

    ``answer`` is None for the operation's own good one. ``until`` is where it ends: "refused", "in
    the request", "asked", or in some part of the answer. ``then`` is "closed", "reset", "stalled",
    "dripping" or nothing.
    """

    name: str
    answer: Callable[[Operation], Answer] | None = None
    until: str = "whole"
    then: str = ""
    services: tuple[str, ...] = tuple(ENDPOINTS)

    @property
    def takes_time(self) -> bool:
        """Whether it is a fault only to who does not wait for ever."""
        return self.then in ("stalled", "dripping")


class Answer(NamedTuple):
    """An HTTP answer; the CRC is DynamoDB's, right unless it is said to be wrong."""

    status: int
    body: bytes
    content_type: str = "application/json"
    headers: tuple[str, ...] = ()
    crc_is_right: bool = True


def good(operation: Operation) -> Answer:
    """What the service says when all is well."""
    if operation.content_type.startswith("text/event-stream"):
        frames = (f"data: {json.dumps(frame)}\n\n" for frame in operation.answer)
        return Answer(200, "".join(frames).encode(), operation.content_type)
    body = b"" if operation.answer is None else json.dumps(operation.answer).encode()
    return Answer(operation.status, body, operation.content_type)


def body_is(body: bytes, content_type: str = "", *, crc_is_right: bool = True) -> Any:
    """A good status with another body."""

    def answer(operation: Operation) -> Answer:
        kind = content_type or operation.content_type
        return Answer(operation.status, body, kind, crc_is_right=crc_is_right)

    return answer


def garbled(*, crc_is_right: bool) -> Any:
    """The good answer with a byte in it that is no UTF-8."""

    def answer(operation: Operation) -> Answer:
        body = good(operation).body or b"{}"
        middle = len(body) // 2
        kind = operation.content_type
        garbled = body[:middle] + b"\xff" + body[middle:]
        return Answer(operation.status, garbled, kind, crc_is_right=crc_is_right)

    return answer


def named(status: int, code: str, *, by_header: bool) -> Any:
    """An error with a code, in the header as AWS's services do it, or in the body alone."""

    def answer(_operation: Operation) -> Answer:
        body = {"message": "No."} if by_header else {"code": code, "__type": code, "message": "No."}
        headers = (f"x-amzn-ErrorType: {code}",) if by_header else ()
        return Answer(status, json.dumps(body).encode(), headers=headers)

    return answer


def page(status: int, body: bytes, *headers: str) -> Any:
    """What a proxy or a firewall says in the service's place."""
    return lambda _operation: Answer(status, body, "text/html", headers)


def _cuts() -> Iterator[Fault]:
    failed = named(503, "ServiceUnavailableException", by_header=True)
    for then in ("closed", "reset", "stalled"):
        if then != "closed":  # which is a reset too, where something was left unread
            yield Fault(f"{then} in the request", None, "in the request", then)
        for until in ("asked", "in the head", "after the head", "in the body"):
            where = "before the head" if until == "asked" else until
            yield Fault(f"{then} {where}", None, until, then)
        for until in ("after the head", "in the body"):
            yield Fault(f"a 503 {then} {until}", failed, until, then)
    yield Fault("dripping head", None, "head", "dripping")
    yield Fault("dripping body", None, "body", "dripping")


REFUSALS = ("ConditionalCheckFailedException", "TransactionCanceledException")


def _statuses() -> Iterator[Fault]:
    codes = {
        "ThrottlingException": tuple(ENDPOINTS),
        "ProvisionedThroughputExceededException": ("dynamodb",),
        "TransactionConflictException": ("dynamodb",),
        **dict.fromkeys(REFUSALS, ("dynamodb",)),
        "TooManyRequestsException": ("lambda",),
        "RetryableConflictException": ("agent",),
        "ServiceQuotaExceededException": ("agent",),
        "RuntimeClientError": ("agent",),
        "AccessDeniedException": tuple(ENDPOINTS),
        "InternalServerError": tuple(ENDPOINTS),
    }
    for code, services in codes.items():
        for status in (400, 402, 403, 409, 424, 429, 500, 502, 503):
            if status == 400 and code in REFUSALS:
                continue  # DynamoDB's own word, and true
            for by_header in (True, False):
                where = "header" if by_header else "body"
                answer = named(status, code, by_header=by_header)
                name = f"{status} {code} in the {where}"
                yield Fault(name, answer, services=services)
    for status in (400, 403, 404, 407, 413, 424, 429, 500, 502, 503, 504):
        yield Fault(f"{status} with HTML", page(status, HTML))
        yield Fault(f"{status} with nothing", page(status, b""))
    for status in (301, 302, 303, 307, 308):
        redirect = page(status, b"", "Location: http://127.0.0.1:9/elsewhere")
        yield Fault(f"{status} elsewhere", redirect)


FAULTS = (
    Fault("none"),
    Fault("refused", until="refused"),
    Fault("nobody accepts", until="refused", then="stalled"),
    Fault("no TLS there", until="no TLS", then="closed"),
    *_cuts(),
    Fault("no HTTP", body_is(b""), "no HTTP", "closed"),
    Fault("a wrong CRC", garbled(crc_is_right=False), services=("dynamodb",)),
    Fault("garbled", garbled(crc_is_right=True)),
    Fault("200 with HTML", body_is(HTML, "text/html")),
    Fault("200 with nothing", body_is(b"")),
    Fault("200 with a list", body_is(b"[]")),
    Fault("200 with half of it", lambda operation: Answer(200, good(operation).body[:-3] or b"{")),
    *_statuses(),
)


# --- the other end --------------------------------------------------------------------------------


class OtherEnd:
    """A server that plays one fault at a time and counts the requests that reach it whole."""

    def __init__(self, operation: Operation, certificate: trustme.LeafCert) -> None:
        self.operation = operation
        self.fault = FAULTS[0]
        self.requests = 0
        self.next = threading.Event()  # the stalls of the fault before end
        self.tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        certificate.configure_cert(self.tls)
        self.listener = socket.socket()
        self.listener.bind(("127.0.0.1", 0))
        self.port: int = self.listener.getsockname()[1]
        self.fillers: list[socket.socket] = []
        self.is_serving = False

    def play(self, fault: Fault) -> None:
        """Plays a fault from now on; those in which nobody accepts must come first."""
        if fault.until == "refused":
            if fault.then:
                # A queue that is full, at which the system drops whoever knocks.
                self.listener.listen(0)
                self.fillers = [self._filler() for _ in range(3)]
        elif not self.is_serving:
            self.is_serving = True
            self.listener.listen(50)
            threading.Thread(target=self._serve, daemon=True).start()
        self.fault, self.requests = fault, 0
        self.next.set()
        self.next = threading.Event()

    def close(self) -> None:
        """Ends it."""
        self.next.set()
        self.listener.close()
        for filler in self.fillers:
            filler.close()

    def _filler(self) -> socket.socket:
        filler = socket.socket()
        filler.settimeout(0)
        filler.connect_ex(("127.0.0.1", self.port))
        return filler

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._meet, args=(connection,), daemon=True).start()

    def _meet(self, connection: socket.socket) -> None:
        fault, over = self.fault, self.next
        # What a client thinks of it is recorded there; here it is no concern.
        with contextlib.suppress(OSError), contextlib.ExitStack() as open_sockets:
            open_sockets.enter_context(connection)
            wire = self._connected(connection, fault)
            if wire:
                open_sockets.enter_context(wire)
                if _request(wire):
                    self.requests += 1
                    self._answer(wire, fault)
            if fault.then == "stalled":
                over.wait(LONGEST_STALL)
            elif fault.then == "reset":
                time.sleep(BEFORE_A_RESET)
                linger = struct.pack("ii", 1, 0)
                (wire or connection).setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)

    def _connected(self, connection: socket.socket, fault: Fault) -> socket.socket | None:
        """Does what comes before the request; None if the request is not read."""
        if fault.until == "in the request":
            connection.recv(1)
            return None
        if fault.until == "no TLS":
            connection.recv(65_536)
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            return None
        return self.tls.wrap_socket(connection, server_side=True)

    def _answer(self, wire: socket.socket, fault: Fault) -> None:
        if fault.until == "asked":
            return
        if fault.until == "no HTTP":
            wire.sendall(b"\x15\x03\x01\x00\x02\x02\x16 what?\r\n\r\n")
            return
        answer = (fault.answer or good)(self.operation)
        if fault.until in ("after the head", "in the body", "body") and not answer.body:
            answer = answer._replace(body=b'{"a": "body"}')
        head, body = _parts(answer)
        if fault.then == "dripping":
            dripping, rest = (head, body) if fault.until == "head" else (body, b"")
            if fault.until == "body":
                wire.sendall(head)
            step = -(-len(dripping) // DRIPS)
            for start in range(0, len(dripping), step):
                wire.sendall(dripping[start : start + step])
                time.sleep(IMPATIENT[1] / 3)
            wire.sendall(rest)
            return
        sent = {
            "in the head": head[: len(head) // 2],
            "after the head": head,
            "in the body": head + body[: len(body) // 2],
        }
        wire.sendall(sent.get(fault.until, head + body))


def _request(wire: socket.socket) -> bool:
    """Reads a request; whether it was one."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = wire.recv(65_536)
        if not more:
            return False
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    length = 0
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            length = int(line.partition(b":")[2])
    while len(body) < length:
        more = wire.recv(65_536)
        if not more:
            return False
        body += more
    return True


def _parts(answer: Answer) -> tuple[bytes, bytes]:
    """An answer as it is sent, head and body; a stream goes in chunks."""
    head = [f"HTTP/1.1 {answer.status} Whatever", "Connection: close", *answer.headers]
    if answer.content_type:
        head.append(f"Content-Type: {answer.content_type}")
    body = answer.body
    if answer.content_type.startswith("text/event-stream"):
        head.append("Transfer-Encoding: chunked")
        chunks = [part + b"\n\n" for part in body.split(b"\n\n") if part] + [b""]
        body = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)
    else:
        head.append(f"Content-Length: {len(body)}")
        crc = zlib.crc32(body) + (0 if answer.crc_is_right else 1)
        head.append(f"x-amz-crc32: {crc}")
    return "\r\n".join([*head, "", ""]).encode(), body


# --- the clients ----------------------------------------------------------------------------------


class Caller:
    """The product's client of one operation, as patient as it is told to be."""

    def __init__(self, operation: Operation, patience: tuple[float, float]) -> None:
        self.operation = operation
        self.attempts = 0
        self.is_reading = False
        self.client = self._client(*patience)
        self.client.meta.events.register("before-send", self._count)

    def _client(self, connect: float, read: float) -> Any:
        if self.operation.service == "agent":
            agent = runtime.AgentRuntime(botocore.session.get_session(), ARN)
            return agent._client(connect, read)  # noqa: SLF001  as run() makes it
        times = Config(connect_timeout=connect, read_timeout=read)
        config = aws.CLIENT_CONFIG.merge(times)
        with mock.patch.object(aws, "CLIENT_CONFIG", config):
            if self.operation.service == "lambda":
                return aws.lambda_client.__wrapped__()
            return dynamodb_helpers.task_store.__wrapped__().client

    def _count(self, **_event: Any) -> None:
        self.attempts += 1

    def call(self) -> Row:
        """Calls it and reads its answer; returns what came out."""
        self.attempts, self.is_reading = 0, False
        try:
            return {"answers": self._answer()}
        except Exception as error:  # noqa: BLE001  this is what is looked for
            return _raised(error) | ({"while": "reading"} if self.is_reading else {})

    def _answer(self) -> list[Any]:
        """The answer, read as the product reads it, in short."""
        if self.operation.method == "invoke_agent_runtime":
            stages = runtime._call(self.client, self.operation.arguments)  # noqa: SLF001
            answer = next(stages)
            self.is_reading = True
            return [answer["statusCode"], len(b"".join(stages))]
        answer = getattr(self.client, self.operation.method)(**self.operation.arguments)
        if "Payload" in answer:
            self.is_reading = True
            with contextlib.closing(answer["Payload"]) as body:
                return [answer["StatusCode"], len(body.read())]
        return sorted(answer.keys() - {"ResponseMetadata"})


def _raised(error: Exception) -> Row:
    if isinstance(error, ClientError):
        status = error.response["ResponseMetadata"]["HTTPStatusCode"]
        return {"raises": "ClientError", "code": error.response["Error"]["Code"], "status": status}
    return {"raises": f"{type(error).__module__}.{type(error).__qualname__}"}


@contextlib.contextmanager
def environment(service: str, port: int, root: Path) -> Iterator[None]:
    """What makes a client that is built in it go to the port."""
    settings = {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
        "AWS_CA_BUNDLE": str(root),
        ENDPOINTS[service]: f"https://127.0.0.1:{port}",
    }
    kept = {name: value for name, value in os.environ.items() if "PROXY" not in name.upper()}
    with mock.patch.dict(os.environ, kept | settings, clear=True):
        yield


class Line:
    """One operation: both ends, and the faults that they go through."""

    def __init__(
        self,
        operation: Operation,
        faults: list[Fault],
        certificate: trustme.LeafCert,
        root: Path,
    ) -> None:
        self.operation = operation
        self.faults = sorted(faults, key=lambda fault: fault.until != "refused")
        self.end = OtherEnd(operation, certificate)
        self.is_slow = faults[0].takes_time
        with environment(operation.service, self.end.port, root):
            self.caller = Caller(operation, IMPATIENT if self.is_slow else PATIENT)

    def rows(self) -> list[Row]:
        """What came of every fault."""
        with contextlib.closing(self.end), contextlib.closing(self.caller.client):
            return [self._row(fault) for fault in self.faults]

    def _row(self, fault: Fault) -> Row:
        self.end.play(fault)
        started = time.monotonic()
        outcome = self.caller.call()
        passed = (time.monotonic() - started) / self.caller.attempts
        row: Row = {"fault": fault.name, "attempts": self.caller.attempts}
        row |= {"requests": self.end.requests} | outcome
        if fault.then == "stalled":
            row["waits"] = "read" if passed >= IMPATIENT[1] else "connect"
        return row | {"operation": self.operation.name}


def measured(
    is_wanted: Callable[[Fault], bool] = lambda _fault: True,
) -> list[Row]:
    """Rows of the table, made now: every one, unless less is asked for."""
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    with (
        authority.cert_pem.tempfile() as root,
        # botocore's backoff between two attempts is not looked at.
        mock.patch.object(botocore.endpoint, "time", SimpleNamespace(sleep=lambda _seconds: None)),
    ):
        lines = [
            Line(operation, part, certificate, Path(root))
            for operation in OPERATIONS
            for part in _parts_of(operation, is_wanted)
        ]
        # Who waits needs no processor, and must not be kept waiting for one.
        lines.sort(key=lambda line: not line.is_slow)
        slow = sum(line.is_slow for line in lines)
        rows = [
            row
            for part, threads in ((lines[:slow], max(slow, 1)), (lines[slow:], QUICK_AT_ONCE))
            for rows in ThreadPoolExecutor(threads).map(Line.rows, part)
            for row in rows
        ]
    order = {fault.name: place for place, fault in enumerate(FAULTS)}
    return sorted(rows, key=lambda row: order[row["fault"]])


def _parts_of(operation: Operation, is_wanted: Callable[[Fault], bool]) -> Iterator[list[Fault]]:
    """The faults that there are for an operation; each slow one by itself."""
    faults = [fault for fault in FAULTS if operation.service in fault.services and is_wanted(fault)]
    quick = [fault for fault in faults if not fault.takes_time]
    yield from filter(None, [quick, *([fault] for fault in faults if fault.takes_time)])


def main() -> None:
    """Writes the table, once it comes out the same twice: a busy machine may be too slow."""
    rows = measured()
    while (again := measured()) != rows:
        rows = again
    write(rows)


if __name__ == "__main__":
    main()
