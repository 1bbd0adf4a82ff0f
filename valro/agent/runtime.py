"""The agent call: a prompt in, what the agent says out, and the agent started at most once.

An agent on Amazon Bedrock AgentCore Runtime e-mails real people, so a call is repeated only after
an error that proves that the agent did not start. Everything else ends the run, and the error says
whether the agent may have acted:

    what came back                                   again?   may have acted
    ThrottlingException, RetryableConflictException,
    ServiceQuotaExceededException, as 402, 409, 429  yes      no
    no connection was made                           yes      no
    3xx, 400, 401, 403, 404, 413: refused            no       no
    424 RuntimeClientError: the agent failed         no       yes
    any other status                                 no       yes
    a proxy that fails, a lost connection, a stall   no       yes, and may still be running
    an answer that says ``error``, or is unreadable  no       yes

    https://docs.aws.amazon.com/bedrock-agentcore/latest/devguide/runtime-invoke-agent.html

Not here: how its answer is read (reader.py), and where that is stored.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import queue
import random
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

import botocore.session
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    HTTPClientError,
    ReadTimeoutError,
)
from botocore.exceptions import ConnectionError as BotoConnectionError
from urllib3.exceptions import ReadTimeoutError as StreamReadTimeout

from valro.agent.answers import (
    Accepted,
    AgentError,
    AgentFailed,
    AgentLost,
    AgentNotStarted,
    AgentTimeout,
    Answer,
)

# The only errors after which the agent is certainly not running, and may run a moment later. A code
# counts only with the service's own status: anything's 502 can have it in its body.
NOT_STARTED_CODES = frozenset(
    {"ThrottlingException", "RetryableConflictException", "ServiceQuotaExceededException"}
)
NOT_STARTED_STATUSES = frozenset({402, 409, 429})
NOT_CONNECTED = (EndpointConnectionError, ConnectTimeoutError)
# With any other status than the service's own, nobody knows what has reached the agent.
REFUSED_STATUSES = NOT_STARTED_STATUSES | {*range(300, 400), 400, 401, 403, 404, 413}
AGENT_FAILED_CODE = "RuntimeClientError"
AGENT_FAILED_STATUS = 424

# An agent that starts late would be cut off in the middle of its work, so only the first half of
# the time is for starting.
STARTING_SHARE = 0.5
BACKOFF_SECONDS = 1.0
MAX_BACKOFF_SECONDS = 20.0
CONNECT_SECONDS = 5.0
STOP_SECONDS = 2.0

STOP_CHECK_SECONDS = 20.0
READ_BYTES = 65_536
SESSION_ID_CHARACTERS = 33  # AgentCore accepts 33 to 256

# Without the first, AWS's own TypeScript SDK refuses every call (415), and FastAPI many (422);
# without the second, that SDK refuses every stream (406).
MEDIA_TYPES = {
    "contentType": "application/json",
    "accept": "text/event-stream, application/json",
}
HTTP = "HTTP"  # AgentCore's names for what a runtime speaks
AGUI = "AGUI"
PROTOCOLS = (HTTP, AGUI)

RUNTIME_ARN = re.compile(
    r"arn:aws[a-z-]*:bedrock-agentcore:(?P<region>[a-z0-9-]+):\d{12}:runtime/[A-Za-z0-9_-]+"
)


class InvalidArn(ValueError):
    """AGENT_RUNTIME_ARN is not the ARN of an AgentCore Runtime."""


class AgentRequest(NamedTuple):
    """What a run is asked; empty fields are not sent.

    ``report`` says where to report; only with it may the agent accept instead of answering.
    ``history`` is the conversation before this prompt, as AG-UI messages ({"id", "role",
    "content"}), and ``resume`` answers what the agent asked in it ({"interruptId", "status",
    "payload"}). ``session`` is the task in whose session the agent runs, if not in its own.
    """

    task_id: str
    prompt: str
    user_id: str = ""
    report: dict[str, Any] | None = None
    thread_id: str = ""
    history: Sequence[dict[str, Any]] = ()
    resume: Sequence[dict[str, Any]] = ()
    session: str = ""

    def payload(self, protocol: str) -> dict[str, Any]:
        """The request's body: our own object, or AG-UI's RunAgentInput.

        https://docs.ag-ui.com/sdk/python/core/types#runagentinput
        """
        user = {"user_id": self.user_id} if self.user_id else {}
        optional: dict[str, Any] = {"report": self.report, "resume": [*self.resume]}
        if protocol == AGUI:
            prompt = {"id": self.task_id, "role": "user", "content": self.prompt}
            asked: dict[str, Any] = {
                "threadId": self.thread_id or self.task_id,
                "runId": self.task_id,
                "protocolVersion": "1.0",
                "messages": [*self.history, prompt],
                "tools": [],
                "context": [],
                "state": {},
                "forwardedProps": {"task_id": self.task_id} | user,
            }
        else:
            asked = {"prompt": self.prompt, "task_id": self.task_id} | user
            optional |= {"thread_id": self.thread_id, "history": [*self.history]}
        return asked | {name: value for name, value in optional.items() if value}


@dataclass
class CallDeadline:
    """How long to wait: until ``end``, or until ``should_stop``, asked at ``next_stop_check``."""

    end: float
    should_stop: Callable[[], bool]
    next_stop_check: float


class AgentRuntime:
    """One agent, by its ARN; ``qualifier`` names an endpoint of it, DEFAULT when None.

    ``protocol`` is what it speaks: HTTP or AGUI.
    """

    def __init__(
        self,
        session: botocore.session.Session,
        arn: str,
        qualifier: str | None = None,
        protocol: str = HTTP,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        jitter: Callable[[], float] = random.random,
        background: Callable[[Iterator[Any]], Any] | None = None,
    ) -> None:
        match = RUNTIME_ARN.fullmatch(arn)
        if match is None:
            raise InvalidArn("AGENT_RUNTIME_ARN is not the ARN of an AgentCore Runtime")
        self.session = session
        self.region = match["region"]  # the agent's, which need not be the function's
        self.target = {"agentRuntimeArn": arn} | ({"qualifier": qualifier} if qualifier else {})
        self.protocol = protocol
        self.monotonic = monotonic
        self.sleep = sleep
        self.jitter = jitter
        self.background = background or Background

    def run(
        self,
        request: AgentRequest,
        seconds: float,
        on_progress: Callable[[str], None],
        *,
        before_start: Callable[[], None] = lambda: None,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> Answer:
        """Runs the agent once, for ``seconds`` at most; raises AgentError.

        ``on_progress`` gets everything that the agent says it is doing, as it arrives.
        ``before_start`` is called before every call of the agent, and what it raises ends the run.
        ``should_stop`` is called every 20 s, even while the agent talks: whether to give up. It does
        not raise.
        """
        now = self.monotonic()
        deadline = CallDeadline(now + seconds, should_stop, now + STOP_CHECK_SECONDS)
        session = session_id(request.session or request.task_id)
        call_arguments = {
            "runtimeSessionId": session,
            "payload": json.dumps(request.payload(self.protocol)).encode(),
            "baggage": f"session.id={session}",
            **_trace(os.environ.get("_X_AMZN_TRACE_ID", "")),
            **MEDIA_TYPES,
            **self.target,
        }
        response, call = self._start(call_arguments, seconds, deadline, before_start)
        # Loaded while the agent works: a cold worker calls it sooner.
        from valro.agent.reader import AgentReader  # noqa: PLC0415

        reader = AgentReader(response.get("contentType") or "", on_progress)
        try:
            while data := self._next(call, deadline):
                reader.feed(data)
        except AgentError:
            raise
        except Exception as error:  # whatever it is, what had been read is not lost
            raise _lost(error, *reader.rescued()) from error
        finally:
            call.abandon()
        return Accepted("") if request.report and reader.accepted() else reader.finish()

    def stop(self, task_id: str) -> None:
        """Asks AgentCore to end the session named after a task; botocore's errors pass through."""
        client = self._client(STOP_SECONDS, STOP_SECONDS)
        client.stop_runtime_session(runtimeSessionId=session_id(task_id), **self.target)

    def _start(
        self,
        arguments: dict[str, Any],
        seconds: float,
        deadline: CallDeadline,
        before_start: Callable[[], None],
    ) -> tuple[dict[str, Any], Any]:
        """Calls the agent until it starts; returns botocore's response and its body's reader."""
        last_start = deadline.end - seconds * (1 - STARTING_SHARE)
        attempt = 0
        while True:
            left = max(deadline.end - self.monotonic(), 0.001)
            client = self._client(min(CONNECT_SECONDS, left), left)
            before_start()  # last, since the claim that it confirms grows old
            if self.monotonic() >= last_start:
                raise AgentNotStarted("There was no time left to start the agent.")
            payload = io.BytesIO(arguments["payload"])
            call = self.background(_call(client, arguments | {"payload": payload}))
            try:
                return self._next(call, deadline), call
            except Exception as error:  # not only botocore's: see _agent_error
                call.abandon()
                # The thread may still be connecting, and succeed when Lambda wakes this process for
                # another task: a closed payload cannot be sent any more.
                payload.close()
                if not _proves_not_started(error):
                    raise _agent_error(error) from error
                wait = self.jitter() * min(MAX_BACKOFF_SECONDS, BACKOFF_SECONDS * 2**attempt)
                attempt += 1
                if self.monotonic() + wait >= last_start:
                    what = "The agent was too busy, or could not be reached, for too long."
                    raise AgentNotStarted(what, repr(error)) from error
                self.sleep(wait)

    def _next(self, call: Any, deadline: CallDeadline) -> Any:
        """The call's next part, None at its end; raises TimeoutError or InterruptedError."""
        while True:
            now = self.monotonic()
            if now >= deadline.end:
                raise TimeoutError("the agent's time is over")
            if now >= deadline.next_stop_check:
                deadline.next_stop_check = now + STOP_CHECK_SECONDS
                # Not right before the end, since it takes time too.
                if deadline.next_stop_check < deadline.end and deadline.should_stop():
                    raise InterruptedError("told to stop")
            with suppress(queue.Empty):
                return call.next(min(deadline.end, deadline.next_stop_check) - now)

    def _client(self, connect_timeout: float, read_timeout: float) -> Any:
        """A client that sends a call once; made for each, since its timeout is the time left."""
        config = Config(
            connect_timeout=connect_timeout,
            read_timeout=read_timeout,
            # Not max_attempts: 1, with which botocore still sends a call twice.
            retries={"total_max_attempts": 1},
        )
        return self.session.create_client(
            "bedrock-agentcore", region_name=self.region, config=config
        )


class Background:
    """Runs an iterator in a thread of its own, so that its user can stop waiting at any time.

    No timeout of botocore's limits a slow resolver, or a response that arrives byte by byte.
    """

    def __init__(self, items: Iterator[Any]) -> None:
        self.handed: queue.Queue[tuple[Any, Exception | None]] = queue.Queue(maxsize=1)
        self.is_abandoned = False
        threading.Thread(target=self._run, args=(items,), daemon=True).start()

    def next(self, seconds: float) -> Any:
        """The next item, None at the end; raises what the iterator raised, or queue.Empty."""
        item, error = self.handed.get(timeout=seconds)
        if error:
            raise error
        return item

    def abandon(self) -> None:
        """Lets the thread end at its next item."""
        self.is_abandoned = True
        with suppress(queue.Empty):
            self.handed.get_nowait()  # it may be waiting for room

    def _run(self, items: Iterator[Any]) -> None:
        try:
            for item in items:
                self.handed.put((item, None))
                if self.is_abandoned:
                    return
            self.handed.put((None, None))
        except BaseException as error:  # noqa: BLE001 - raised again where it is waited for
            # What would end a process has ended only this thread.
            self.handed.put(
                (None, error if isinstance(error, Exception) else RuntimeError(repr(error)))
            )


def session_id(task_id: str) -> str:
    """The runtime session of a task, always the same: AgentCore accepts 33 to 256 characters."""
    if len(task_id) >= SESSION_ID_CHARACTERS:
        return task_id
    return f"{task_id}-{hashlib.sha256(task_id.encode()).hexdigest()}"


def _trace(header: str) -> dict[str, str]:
    """Lets the agent continue Lambda's trace, in W3C's form beside X-Ray's.

    A trace that is not sampled, for example because tracing is off, must not keep the agent from
    sampling its own: then only the root is passed on, which decides nothing.
    https://docs.aws.amazon.com/xray/latest/devguide/xray-concepts.html#xray-concepts-tracingheader
    """
    fields = dict(part.strip().partition("=")[::2] for part in header.split(";"))
    root, parent = fields.get("Root", ""), fields.get("Parent", "")
    if fields.get("Sampled") != "1":
        kept = [f"{name}={fields[name]}" for name in ("Root", "Lineage") if name in fields]
        return {"traceId": ";".join(kept)} if kept else {}
    trace = root.removeprefix("1-").replace("-", "")
    if not re.fullmatch("[0-9a-f]{32}", trace) or not re.fullmatch("[0-9a-f]{16}", parent):
        return {}
    return {"traceId": header, "traceParent": f"00-{trace}-{parent}-01"}


def _call(client: Any, request: dict[str, Any]) -> Iterator[Any]:
    """Yields botocore's response, then its body as it arrives."""
    response = client.invoke_agent_runtime(**request)
    with closing(response["response"]) as body:
        yield response
        yield from arriving(body)


def arriving(body: Any) -> Iterator[bytes]:
    """Yields the bytes of a body as soon as they arrive.

    StreamingBody.read(n) and iter_lines() wait for n bytes, and lose them all if the stream stalls
    or breaks before. Only the urllib3 response below can read what has arrived, so this is the one
    place that reaches for it.
    """
    raw = body._raw_stream  # noqa: SLF001
    while not raw.closed:
        if data := raw.read1(READ_BYTES):
            yield data


def _proves_not_started(error: Exception) -> bool:
    if isinstance(error, ClientError):
        is_own = _status(error) in NOT_STARTED_STATUSES
        return is_own and error.response["Error"]["Code"] in NOT_STARTED_CODES
    # Not ProxyConnectionError: a proxy that breaks a call in the middle causes it too.
    return isinstance(error, NOT_CONNECTED)


def _status(error: ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 500))


def _lost(error: Exception, partial: Answer | None = None, unparsed: str = "") -> AgentLost:
    """What is known about an agent whose call broke or was given up."""
    if isinstance(error, InterruptedError):
        return AgentLost("The agent was told to stop.", repr(error), partial, unparsed)
    if isinstance(error, (ReadTimeoutError, StreamReadTimeout, TimeoutError)):
        return AgentTimeout("The agent did not finish in time.", repr(error), partial, unparsed)
    return AgentLost("The connection to the agent was lost.", repr(error), partial, unparsed)


def _agent_error(error: Exception) -> AgentError:
    """The call's error in words; its own text has ARNs, and goes to the log.

    The agent is lost, unless it is known to have failed or not to have started: an error response
    that is cut or garbled leaves botocore as an error of urllib3 or of its parser.
    """
    detail = repr(error)
    if isinstance(error, ClientError):
        code = error.response["Error"]["Code"]
        status = _status(error)
        if code == AGENT_FAILED_CODE or status == AGENT_FAILED_STATUS:
            return AgentFailed("The agent failed.", detail)
        if status in REFUSED_STATUSES:
            return AgentNotStarted(f"The agent could not be called ({code}).", detail)
        return AgentLost(f"The agent's service failed ({code}).", detail)
    # A TLS connection can break in the middle of a call too: that is a BotoConnectionError.
    if isinstance(error, BotoCoreError) and not isinstance(
        error, (HTTPClientError, BotoConnectionError)
    ):
        return AgentNotStarted(f"The agent could not be called ({type(error).__name__}).", detail)
    return _lost(error)
