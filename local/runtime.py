"""A stand-in for Amazon Bedrock AgentCore Runtime that serves the sample agent.

It answers what botocore sends for InvokeAgentRuntime and StopRuntimeSession:

    POST /runtimes/{arn}/invocations          -> the agent's /invocations
    POST /runtimes/{arn}/stopruntimesession   -> ends that session's run
    GET  /invocations                         -> what reached it, for tests
    GET  /ping                                -> the agent's health

As on AWS, a failure of the agent's own (HTTP 500) is 424 RuntimeClientError to the caller.
`python -m local.runtime --port 8080` runs it on its own.
"""

import argparse
import contextlib
import json
import socket
import threading
from collections import Counter
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route
from starlette.types import Message, Receive, Scope, Send

from local import agent, faults

SESSION_HEADER = "x-amzn-bedrock-agentcore-runtime-session-id"
AGENT_FAILED = (
    "Received error (500) from runtime. Please check your CloudWatch logs for more information."
)
# behaviour -> status, error code; these refuse before the agent is reached
_REFUSALS = {
    "throttle": (429, "ThrottlingException"),
    "conflict": (409, "RetryableConflictException"),
    "unavailable": (500, "InternalServerException"),
}


class Runtime:
    """Passes invocations on to an agent, and keeps count of what reached it."""

    def __init__(self, app: Starlette) -> None:
        self._app = app
        self._reached: Counter[str] = Counter()
        self._refused: Counter[str] = Counter()
        self._sessions: dict[str, str] = {}
        self._stopped: list[str] = []
        self._running: list[str] = []

    async def invoke(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one InvokeAgentRuntime call."""
        request = Request(scope, receive)
        body = await request.body()
        task_id, prompt = _read_payload(body)
        refusal = self._refuse(task_id, prompt)
        if refusal:
            await refusal(scope, receive, send)
            return
        session = request.headers.get(SESSION_HEADER, "")
        self._reached[task_id] += 1
        self._sessions[task_id] = session
        stopped = faults.stopped_sessions[session] = threading.Event()
        answer = _Answer(send, session, stopped)
        delivered = False

        async def receive_again() -> Message:
            nonlocal delivered
            if not delivered:
                delivered = True
                return {"type": "http.request", "body": body, "more_body": False}
            message = await receive()
            if message["type"] == "http.disconnect":
                stopped.set()
            return message

        inner = {**scope, "path": "/invocations", "raw_path": b"/invocations", "root_path": ""}
        self._running.append(task_id)
        try:
            await self._app(inner, receive_again, answer.send)
        finally:
            self._running.remove(task_id)

    async def stop(self, request: Request) -> JSONResponse:
        """Serves one StopRuntimeSession call: 404 for a session that never was."""
        session = request.headers.get(SESSION_HEADER, "")
        self._stopped.append(session)
        stopped = faults.stopped_sessions.get(session)
        if stopped is None:
            return _error(404, "ResourceNotFoundException", f"Session {session} not found")
        stopped.set()
        return JSONResponse({}, headers={SESSION_HEADER: session})

    async def report(self, _: Request) -> JSONResponse:
        """Tells what was asked of the runtime: counts and sessions by task, and who was stopped.

        "reached" counts the runs that the agent began, "refused" those that it never saw.
        """
        return JSONResponse(
            {
                "reached": self._reached,
                "refused": self._refused,
                "sessions": self._sessions,
                "stopped": self._stopped,
                "running": self._running,
            }
        )

    def _refuse(self, task_id: str, prompt: str) -> JSONResponse | None:
        behaviour, count = faults.read_behaviour(prompt)
        if behaviour not in _REFUSALS or self._refused[task_id] >= (count or 1):
            return None
        self._refused[task_id] += 1
        status, code = _REFUSALS[behaviour]
        return _error(status, code, "The sample agent was told to be refused.")


class _Answer:
    """Sends the agent's answer on, its 500 as AgentCore's 424."""

    def __init__(self, send: Send, session: str, stopped: threading.Event) -> None:
        self._send = send
        self._session = session
        self._stopped = stopped
        self._failed = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._failed = message["status"] >= 500
            if self._failed:
                return
            headers = [*message["headers"], (SESSION_HEADER.encode(), self._session.encode())]
            message = {**message, "headers": headers}
        elif self._failed:
            await self._send_failure()
            return
        elif self._stopped.is_set() and message.get("more_body"):
            # A stopped session's sandbox is gone: its answer breaks off, it does not end.
            raise ConnectionAbortedError("the session was stopped")
        await self._send(message)

    async def _send_failure(self) -> None:
        response = _error(424, "RuntimeClientError", AGENT_FAILED)
        start = {"status": response.status_code, "headers": response.raw_headers}
        await self._send({"type": "http.response.start", **start})
        await self._send({"type": "http.response.body", "body": bytes(response.body)})


def build_server(app: Starlette = agent.app) -> Starlette:
    """Returns the ASGI application that speaks AgentCore's two calls for an agent."""
    runtime = Runtime(app)

    async def dispatch(scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        if path.endswith("/invocations"):
            await runtime.invoke(scope, receive, send)
        elif path.endswith("/stopruntimesession"):
            response = await runtime.stop(Request(scope, receive))
            await response(scope, receive, send)
        else:
            await _error(404, "ResourceNotFoundException", path)(scope, receive, send)

    return Starlette(
        routes=[
            Route("/invocations", runtime.report, methods=["GET"]),
            Mount("/runtimes", app=dispatch),
            Mount("/", app=app),
        ]
    )


def main() -> None:
    """Serves the sample agent on 127.0.0.1 until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m local.runtime", description=__doc__)
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--socket", type=int, help="a listening socket to serve on instead")
    options = parser.parse_args()
    if options.socket is None:
        listener = socket.create_server(("127.0.0.1", options.port), backlog=256)
    else:
        listener = socket.socket(fileno=options.socket)
    config = uvicorn.Config(build_server(), log_level="warning", timeout_graceful_shutdown=1)
    with contextlib.suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets=[listener])


def _read_payload(body: bytes) -> tuple[str, str]:
    """Returns task_id and prompt as far as the payload has them; judging it is the agent's."""
    try:
        payload: Any = json.loads(body)
    except ValueError:
        return "", ""
    if not isinstance(payload, dict):
        return "", ""
    return str(payload.get("task_id", "")), str(payload.get("prompt", ""))


def _error(status: int, code: str, message: str) -> JSONResponse:
    return JSONResponse({"message": message}, status, {"x-amzn-errortype": code})


if __name__ == "__main__":
    main()
