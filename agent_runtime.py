"""The agent call: a prompt in, what the agent says out, and the agent started at most once.

An agent on Amazon Bedrock AgentCore Runtime e-mails real people, so a call is repeated only after
an error that proves that the agent did not start. Everything else ends the run, and the error says
whether the agent may have acted:

    what came back                                   again?   may have acted
    ThrottlingException, RetryableConflictException,
    ServiceQuotaExceededException                    yes      no
    no connection was made                           yes      no
    any other 4xx (no access, no such agent)         no       no
    424 RuntimeClientError: the agent failed         no       yes
    5xx                                              no       yes
    a connection lost, a stall, a stream cut         no       yes, and may still be running
    an answer that says ``error``, or is unreadable  no       yes

    https://docs.aws.amazon.com/bedrock-agentcore/latest/devguide/runtime-invoke-agent.html

Not here: how what it says is read (agent_answers.py), and where that is kept.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import botocore.session
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    HTTPClientError,
    ProxyConnectionError,
    ReadTimeoutError,
)
from botocore.exceptions import ConnectionError as BotoConnectionError
from urllib3.exceptions import HTTPError
from urllib3.exceptions import ReadTimeoutError as StreamReadTimeout

from agent_answers import (
    AgentError,
    AgentFailed,
    AgentLost,
    AgentNotStarted,
    Answer,
    EventStream,
    WholeAnswer,
)

# The only errors after which the agent is surely not running, and may run a moment later.
NOT_STARTED_CODES = frozenset(
    {"ThrottlingException", "RetryableConflictException", "ServiceQuotaExceededException"}
)
NOT_CONNECTED = (EndpointConnectionError, ConnectTimeoutError, ProxyConnectionError)
AGENT_FAILED_CODE = "RuntimeClientError"
AGENT_FAILED_STATUS = 424

# An agent started late would be cut off in the middle of its work, so the first half of the time is
# for starting and at least the second half for running.
STARTING_SHARE = 0.5
BACKOFF_SECONDS = 1.0
MAX_BACKOFF_SECONDS = 20.0
CONNECT_SECONDS = 5.0
STOP_SECONDS = 2.0

READ_BYTES = 65_536
SESSION_ID_CHARACTERS = 33  # AgentCore takes 33 to 256

RUNTIME_ARN = re.compile(
    r"arn:aws[a-z-]*:bedrock-agentcore:(?P<region>[a-z0-9-]+):\d{12}:runtime/[A-Za-z0-9_-]+"
)


class InvalidArn(ValueError):
    """AGENT_RUNTIME_ARN is not the ARN of an AgentCore Runtime."""


class AgentRuntime:
    """One agent, by its ARN; ``qualifier`` names an endpoint of it, DEFAULT when None."""

    def __init__(
        self,
        session: botocore.session.Session,
        arn: str,
        qualifier: str | None = None,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        match = RUNTIME_ARN.fullmatch(arn)
        if match is None:
            raise InvalidArn("AGENT_RUNTIME_ARN is not the ARN of an AgentCore Runtime")
        self.session = session
        self.region = match["region"]  # the agent's, which need not be the function's
        self.target = {"agentRuntimeArn": arn} | ({"qualifier": qualifier} if qualifier else {})
        self.monotonic = monotonic
        self.sleep = sleep
        self.jitter = jitter

    def run(
        self, task_id: str, prompt: str, seconds: float, on_progress: Callable[[str], None]
    ) -> Answer:
        """Runs the agent once, for ``seconds`` at most; raises AgentError.

        ``on_progress`` gets each thing that the agent says it is doing, as it arrives.
        """
        end = self.monotonic() + seconds
        response = self._start(task_id, prompt, end)
        content_type = (response.get("contentType") or "").lower()
        reader: EventStream | WholeAnswer
        if content_type.startswith("text/event-stream"):
            reader = EventStream(on_progress)
        else:
            reader = WholeAnswer(is_text=content_type.startswith("text/"))
        with closing(response["response"]) as body:
            try:
                for data in self._arriving(body, end):
                    reader.feed(data)
            except (HTTPError, OSError) as error:
                # OSError: our own TimeoutError, and what a socket raises under urllib3.
                if isinstance(error, StreamReadTimeout | TimeoutError):
                    what = "The agent did not finish in time."
                else:
                    what = "The connection to the agent was lost."
                raise AgentLost(what, repr(error), reader.partial(), reader.raw()) from error
        return reader.finish()

    def stop(self, task_id: str) -> None:
        """Asks AgentCore to end the task's session, once; botocore's errors pass through."""
        client = self._client(STOP_SECONDS, STOP_SECONDS)
        client.stop_runtime_session(runtimeSessionId=session_id(task_id), **self.target)

    def _start(self, task_id: str, prompt: str, end: float) -> dict[str, Any]:
        """Calls the agent until it starts; returns botocore's response, its body unread."""
        seconds = end - self.monotonic()
        if seconds <= 0:
            raise AgentNotStarted("There was no time left to start the agent.")
        payload = json.dumps({"prompt": prompt, "task_id": task_id}).encode()
        last_start = end - seconds * (1 - STARTING_SHARE)
        attempt = 0
        while True:
            left = max(end - self.monotonic(), 0.001)
            client = self._client(min(CONNECT_SECONDS, left), left)
            try:
                return client.invoke_agent_runtime(
                    runtimeSessionId=session_id(task_id), payload=payload, **self.target
                )
            except Exception as error:  # not botocore's alone: see _agent_error
                if not _proves_not_started(error):
                    raise _agent_error(error) from error
                wait = self.jitter() * min(MAX_BACKOFF_SECONDS, BACKOFF_SECONDS * 2**attempt)
                attempt += 1
                if self.monotonic() + wait >= last_start:
                    what = "The agent was too busy, or out of reach, for too long."
                    raise AgentNotStarted(what, repr(error)) from error
                self.sleep(wait)

    def _client(self, connect_timeout: float, read_timeout: float) -> Any:
        """A client that sends a call once; made per call, since its time is what is left."""
        config = Config(
            connect_timeout=connect_timeout,
            read_timeout=read_timeout,
            # Not max_attempts: 1, with which botocore still sends a call twice.
            retries={"total_max_attempts": 1},
        )
        return self.session.create_client(
            "bedrock-agentcore", region_name=self.region, config=config
        )

    def _arriving(self, body: Any, end: float) -> Iterator[bytes]:
        """Yields what has arrived, as soon as it has; raises TimeoutError at ``end``.

        StreamingBody.read(n) and iter_lines() wait until n bytes are there, and lose them all if
        the stream stalls or breaks before. Only the urllib3 response under it can read what is
        there, so this is the one place that reaches for it.
        """
        raw = body._raw_stream  # noqa: SLF001
        while not raw.closed:
            left = end - self.monotonic()
            if left <= 0:
                raise TimeoutError("the time for the agent is over")
            # The client's read timeout bounds each gap; this bounds the whole.
            body.set_socket_timeout(left)
            if data := raw.read1(READ_BYTES):
                yield data


def session_id(task_id: str) -> str:
    """The runtime session of a task, the same every time: AgentCore takes 33 to 256 characters."""
    if len(task_id) >= SESSION_ID_CHARACTERS:
        return task_id
    return f"{task_id}-{hashlib.sha256(task_id.encode()).hexdigest()}"


def _proves_not_started(error: Exception) -> bool:
    if isinstance(error, ClientError):
        return error.response["Error"]["Code"] in NOT_STARTED_CODES
    return isinstance(error, NOT_CONNECTED)


def _agent_error(error: Exception) -> AgentError:
    """An error of the call itself in words; its own text names ARNs and goes to the log.

    Lost, unless it is known that the agent has failed or was not started: an error answer that is
    cut or garbled leaves botocore as an error of urllib3 or of its parser.
    """
    detail = repr(error)
    if isinstance(error, ClientError):
        code = error.response["Error"]["Code"]
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 500)
        if code == AGENT_FAILED_CODE or status == AGENT_FAILED_STATUS:
            return AgentFailed("The agent failed.", detail)
        if status < 500:
            return AgentNotStarted(f"The agent could not be called ({code}).", detail)
        return AgentLost(f"The agent's service failed ({code}).", detail)
    if isinstance(error, (ReadTimeoutError, StreamReadTimeout)):
        return AgentLost("The agent did not finish in time.", detail)
    # A TLS connection can break in the middle of a call too: that is a BotoConnectionError.
    if isinstance(error, BotoCoreError) and not isinstance(
        error, (HTTPClientError, BotoConnectionError)
    ):
        return AgentNotStarted(f"The agent could not be called ({type(error).__name__}).", detail)
    return AgentLost("The connection to the agent was lost.", detail)
