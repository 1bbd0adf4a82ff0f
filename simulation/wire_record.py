"""Makes every fault of the wire on real sockets, and writes down what the real clients make of it.

    python -m simulation.wire_record     writes simulation/wire_faults.json anew

A busy machine may be too slow for it; the test then finds other rows.

The clients are the product's own, with their configuration but for shorter times, and TLS as to
AWS. The server here is whatever is at the other end: the service, or something in its place.
"""

import contextlib
import http.client
import json
import os
import socket
import ssl
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any, NamedTuple
from unittest import mock

import botocore.endpoint
import botocore.session
import trustme
from botocore import xform_name
from botocore.config import Config
from botocore.exceptions import ClientError

import dynamodb_helpers
from simulation.wire import Row, write
from valro import aws
from valro.agent import runtime

# What a client waits, for a connection and for bytes, where nothing comes and where something must.
IMPATIENT = (0.15, 0.6)
PATIENT = (10.0, 10.0)
STALL_SECONDS = 5.0
DRIPS = 5
BEFORE_A_RESET = 0.1  # which takes with it what the other end has not read yet
RESET = struct.pack("ii", 1, 0)
ARN = "arn:aws:bedrock-agentcore:us-east-1:123456789012:runtime/valro-0123456789"
HTML = b"<html><body><h1>Bad Gateway</h1></body></html>"
STREAM = "text/event-stream; charset=utf-8"
# What is a fault only to who does not wait for ever.
SLOW = ("stalled", "dripping")
SERVICES = ("dynamodb", "lambda", "agent")


# --- the operations -------------------------------------------------------------------------------


class Answer(NamedTuple):
    """An HTTP answer; its CRC, which only DynamoDB's client looks at, is off by ``crc_error``."""

    status: int
    body: bytes
    content_type: str = "application/json"
    header: str = ""
    crc_error: int = 0


class Operation(NamedTuple):
    """A call that the product makes, and a good answer to it."""

    service: str
    name: str
    arguments: dict[str, Any]
    good: Answer


_UPDATE = {"TableName": "valro-tasks", "Key": {"id": {"S": "a"}}}
_EVENT = {"FunctionName": "worker", "InvocationType": "Event", "Payload": "{}"}
_SESSION = {"agentRuntimeArn": ARN, "runtimeSessionId": "s" * 40}
_RUN = _SESSION | {"payload": b"{}"}
_FOUND = b'{"response": "Found.", "vendors": []}'
_FRAMES = b'data: {"message": "Searching"}\n\ndata: {"response": "Found."}\n\n'
# Of the table's operations one, since what comes of a fault is the same for all of them.
OPERATIONS = (
    Operation("dynamodb", "UpdateItem", _UPDATE, Answer(200, b'{"Attributes": {"id": {}}}')),
    Operation("lambda", "Invoke", _EVENT, Answer(202, b"", "")),
    Operation("agent", "InvokeAgentRuntime", _RUN, Answer(200, _FOUND)),
    Operation("agent", "InvokeAgentRuntime, streamed", _RUN, Answer(200, _FRAMES, STREAM)),
    Operation("agent", "StopRuntimeSession", _SESSION, Answer(200, b'{"statusCode": 200}')),
)


# --- the faults -----------------------------------------------------------------------------------


class Fault(NamedTuple):
    """What happens to a call: what becomes of its answer, how much is sent, and what comes then.

    ``until`` is where it ends: "refused", "in the request", "asked", or in some part of the answer.
    ``then`` is "closed", "reset", "stalled", "dripping" or nothing.
    """

    name: str
    answer: Callable[[Answer], Answer] = lambda good: good
    until: str = "whole"
    then: str = ""
    services: tuple[str, ...] = SERVICES


def always(*answer: Any) -> Callable[[Answer], Answer]:
    """The same answer to every call."""
    return lambda _good: Answer(*answer)


def garbled(good: Answer) -> Answer:
    """The good answer with a byte in it that is no UTF-8."""
    body = good.body or b"{}"
    middle = len(body) // 2
    return good._replace(body=body[:middle] + b"\xff" + body[middle:])


def _cuts() -> Iterator[Fault]:
    code = "x-amzn-ErrorType: ServiceUnavailableException"
    failed = always(503, b'{"message": "No."}', "application/json", code)
    for then in ("closed", "reset", "stalled"):
        if then != "closed":  # which is a reset too, where something was left unread
            yield Fault(f"{then} in the request", until="in the request", then=then)
        yield Fault(f"{then} before the head", until="asked", then=then)
        for until in ("in the head", "after the head", "in the body"):
            yield Fault(f"{then} {until}", until=until, then=then)
        for until in ("after the head", "in the body"):
            yield Fault(f"a 503 {then} {until}", failed, until, then)
    yield Fault("dripping head", until="head", then="dripping")
    yield Fault("dripping body", until="body", then="dripping")


REFUSALS = ("ConditionalCheckFailedException", "TransactionCanceledException")
CODES = {
    "ThrottlingException": SERVICES,
    "ProvisionedThroughputExceededException": ("dynamodb",),
    "TransactionConflictException": ("dynamodb",),
    **dict.fromkeys(REFUSALS, ("dynamodb",)),
    "TooManyRequestsException": ("lambda",),
    "RetryableConflictException": ("agent",),
    "ServiceQuotaExceededException": ("agent",),
    "RuntimeClientError": ("agent",),
    "AccessDeniedException": SERVICES,
    "InternalServerError": SERVICES,
}


def _statuses() -> Iterator[Fault]:
    for code, services in CODES.items():
        for status in (400, 402, 403, 409, 424, 429, 500, 502, 503):
            if status == 400 and code in REFUSALS:
                continue  # DynamoDB's own word, and true
            # In the header as AWS's services do it, or in the body alone.
            told = f"x-amzn-ErrorType: {code}"
            header = always(status, b'{"message": "No."}', "application/json", told)
            said = {"code": code, "__type": code, "message": "No."}
            body = always(status, json.dumps(said).encode())
            yield Fault(f"{status} {code} in the header", header, services=services)
            yield Fault(f"{status} {code} in the body", body, services=services)
    for status in (400, 403, 404, 407, 413, 424, 429, 500, 502, 503, 504):
        yield Fault(f"{status} with HTML", always(status, HTML, "text/html"))
        yield Fault(f"{status} with nothing", always(status, b"", "text/html"))
    for status in (301, 302, 303, 307, 308):
        redirect = always(status, b"", "text/html", "Location: http://127.0.0.1:9/elsewhere")
        yield Fault(f"{status} elsewhere", redirect)


FAULTS = (
    Fault("none"),
    Fault("refused", until="refused"),
    Fault("nobody accepts", until="refused", then="stalled"),
    Fault("no TLS there", until="no TLS", then="closed"),
    *_cuts(),
    Fault("no HTTP", until="no HTTP", then="closed"),
    Fault("a wrong CRC", lambda good: garbled(good)._replace(crc_error=1), services=("dynamodb",)),
    Fault("garbled", garbled),
    Fault("200 with HTML", lambda good: good._replace(body=HTML, content_type="text/html")),
    Fault("200 with nothing", lambda good: good._replace(body=b"")),
    Fault("200 with a list", lambda good: good._replace(body=b"[]")),
    Fault("200 with half of it", lambda good: Answer(200, good.body[:-3] or b"{")),
    *_statuses(),
)


# --- both ends ------------------------------------------------------------------------------------


def client_of(service: str, connect: float, read: float) -> Any:
    """The product's own client, which waits as long as it is told to."""
    if service == "agent":
        agent = runtime.AgentRuntime(botocore.session.get_session(), ARN)
        return agent._client(connect, read)  # noqa: SLF001  as run() makes it
    config = aws.CLIENT_CONFIG.merge(Config(connect_timeout=connect, read_timeout=read))
    with mock.patch.object(aws, "CLIENT_CONFIG", config):
        if service == "lambda":
            return aws.lambda_client.__wrapped__()
        return dynamodb_helpers.task_store.__wrapped__().client


class Line:
    """One operation and the faults that it goes through: a client, and a server that plays them."""

    def __init__(
        self, operation: Operation, faults: list[Fault], certificate: trustme.LeafCert, root: str
    ) -> None:
        self.operation = operation
        self.faults = sorted(faults, key=lambda fault: fault.until != "refused")
        self.fault = FAULTS[0]
        self.attempts = self.requests = 0  # as the client counts, and whole ones at the server
        self.tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        certificate.configure_cert(self.tls)
        self.sockets = contextlib.ExitStack()
        self.listener = self.sockets.enter_context(socket.socket())
        self.listener.bind(("127.0.0.1", 0))
        self.server: threading.Thread | None = None
        settings = {
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_REGION": "us-east-1",
            "AWS_CA_BUNDLE": root,
            "AWS_ENDPOINT_URL": f"https://127.0.0.1:{self.listener.getsockname()[1]}",
            "no_proxy": "127.0.0.1",
        }
        patience = IMPATIENT if faults[0].then in SLOW else PATIENT
        with mock.patch.dict(os.environ, settings):
            self.client = client_of(operation.service, *patience)
        self.client.meta.events.register("before-send", self._count)

    def _count(self, **_event: Any) -> None:
        self.attempts += 1

    def rows(self) -> list[Row]:
        """What came of every fault."""
        with self.sockets, contextlib.closing(self.client):
            return [self._row(fault) for fault in self.faults]

    def _row(self, fault: Fault) -> Row:
        self._play(fault)
        started = time.monotonic()
        outcome = _outcome(self.client, self.operation)
        passed = (time.monotonic() - started) / self.attempts
        row: Row = {"fault": fault.name, "attempts": self.attempts, "requests": self.requests}
        row |= outcome
        if fault.then == "stalled":
            row["waits"] = "read" if passed >= IMPATIENT[1] else "connect"
        return row | {"operation": self.operation.name}

    def _play(self, fault: Fault) -> None:
        """Plays a fault from now on; those in which nobody accepts must come first."""
        self.fault = fault
        self.attempts = self.requests = 0
        if fault.name == "nobody accepts":
            # A queue that is full, at which the system drops whoever knocks.
            self.listener.listen(0)
            for _ in range(3):
                filler = self.sockets.enter_context(socket.socket())
                filler.settimeout(0)
                filler.connect_ex(self.listener.getsockname())
        elif fault.until != "refused" and not self.server:
            self.listener.listen(50)
            self.server = threading.Thread(target=self._serve, daemon=True)
            self.server.start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):  # when it is closed
            while True:
                connection, _ = self.listener.accept()
                threading.Thread(target=self._meet, args=(connection,), daemon=True).start()

    def _meet(self, wire: socket.socket) -> None:
        fault = self.fault
        # What a client thinks of it is recorded there; here it is no concern.
        with contextlib.suppress(OSError), contextlib.ExitStack() as open_sockets:
            open_sockets.enter_context(wire)
            if fault.until == "in the request":
                wire.recv(1)
            elif fault.until == "no TLS":
                wire.recv(65_536)
                wire.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            else:
                wire = open_sockets.enter_context(self.tls.wrap_socket(wire, server_side=True))
                if _request(wire):
                    self.requests += 1
                    for piece in _pieces(*_parts(fault.answer(self.operation.good), fault), fault):
                        wire.sendall(piece)
                        if fault.then == "dripping":
                            time.sleep(IMPATIENT[1] / 3)
            if fault.then == "stalled":
                time.sleep(STALL_SECONDS)
            elif fault.then == "reset":
                time.sleep(BEFORE_A_RESET)
                wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)


def _request(wire: socket.socket) -> bool:
    """Reads a request; whether it was one."""
    with wire.makefile("rb") as stream:
        if not stream.readline():
            return False
        length = int(http.client.parse_headers(stream).get("content-length", 0))
        return len(stream.read(length)) == length


def _parts(answer: Answer, fault: Fault) -> tuple[bytes, bytes]:
    """An answer as it is sent, head and body; a stream goes in chunks."""
    head = [f"HTTP/1.1 {answer.status} Whatever", "Connection: close"]
    body = answer.body
    if not body and fault.until in ("after the head", "in the body", "body"):
        body = b'{"a": "body"}'
    if answer.header:
        head.append(answer.header)
    if answer.content_type:
        head.append(f"Content-Type: {answer.content_type}")
    if answer.content_type == STREAM:
        head.append("Transfer-Encoding: chunked")
        chunks = [part + b"\n\n" for part in body.split(b"\n\n") if part] + [b""]
        body = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)
    else:
        crc = zlib.crc32(body) + answer.crc_error
        head += [f"Content-Length: {len(body)}", f"x-amz-crc32: {crc}"]
    return "\r\n".join([*head, "", ""]).encode(), body


def _pieces(head: bytes, body: bytes, fault: Fault) -> Iterator[bytes]:
    """What is sent of an answer, all at once or in drips."""
    if fault.then != "dripping":
        yield {
            "asked": b"",
            "no HTTP": b"\x15\x03\x01\x00\x02\x02\x16 what?\r\n\r\n",
            "in the head": head[: len(head) // 2],
            "after the head": head,
            "in the body": head + body[: len(body) // 2],
        }.get(fault.until, head + body)
        return
    before, dripping, after = (b"", head, body) if fault.until == "head" else (head, body, b"")
    step = -(-len(dripping) // DRIPS)
    yield before
    yield from (dripping[start : start + step] for start in range(0, len(dripping), step))
    yield after


def _outcome(client: Any, operation: Operation) -> Row:
    """Calls it and reads its answer as the product does; returns what came out, in short."""
    is_reading = False
    method = xform_name(operation.name.partition(",")[0])
    try:
        if method == "invoke_agent_runtime":
            stages = runtime._call(client, operation.arguments)  # noqa: SLF001
            status = next(stages)["statusCode"]
            is_reading = True
            return {"answers": [status, len(b"".join(stages))]}
        answer = getattr(client, method)(**operation.arguments)
        if "Payload" not in answer:
            return {"answers": sorted(answer.keys() - {"ResponseMetadata"})}
        is_reading = True
        with contextlib.closing(answer["Payload"]) as body:
            return {"answers": [answer["StatusCode"], len(body.read())]}
    except ClientError as error:
        status = error.response["ResponseMetadata"]["HTTPStatusCode"]
        code = error.response["Error"]["Code"]
        return {"raises": "ClientError", "code": code, "status": status}
    except Exception as error:  # noqa: BLE001  this is what is looked for
        raised = {"raises": f"{type(error).__module__}.{type(error).__qualname__}"}
        return raised | ({"while": "reading"} if is_reading else {})


def measured(faults: Sequence[Fault] = FAULTS) -> list[Row]:
    """Rows of the table, made now: every one, unless less is asked for."""
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    rows: list[Row] = []
    with (
        authority.cert_pem.tempfile() as root,
        # botocore's backoff between two attempts is not looked at.
        mock.patch.object(botocore.endpoint, "time", SimpleNamespace(sleep=lambda _seconds: None)),
    ):
        # Who waits needs no processor, and must not be kept waiting for one.
        for is_slow in (True, False):
            wanted = [fault for fault in faults if (fault.then in SLOW) == is_slow]
            lines = [
                Line(operation, own, certificate, root)
                for operation in OPERATIONS
                if (own := [fault for fault in wanted if operation.service in fault.services])
            ]
            with ThreadPoolExecutor(len(OPERATIONS)) as pool:
                rows += [row for each in pool.map(Line.rows, lines) for row in each]
    order = {fault.name: place for place, fault in enumerate(FAULTS)}
    return sorted(rows, key=lambda row: order[row["fault"]])


if __name__ == "__main__":
    write(measured())
