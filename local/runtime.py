"""A stand-in for Amazon Bedrock AgentCore Runtime that serves an agent: the sample, or one's own.

It answers what botocore sends for InvokeAgentRuntime and StopRuntimeSession:

    POST /runtimes/{arn}/invocations          -> the agent's /invocations
    POST /runtimes/{arn}/stopruntimesession   -> ends that session's run
    GET  /runtimes/{id}/  (GetAgentRuntime)   -> that it is ready, and the protocol that it speaks
    GET  /invocations                         -> what reached it, for tests
    GET  /ping                                -> the agent's health

As on AWS, any answer of the agent's that is no success (the SDK's HTTP 500, say) is 424
RuntimeClientError to the caller, and the answer of a session that is stopped breaks off. On AWS a
stopped session's machine is gone; here the agent's connection is closed, which is all that an agent
of one's own can notice.
`python -m local.runtime --port 8080` runs it on its own.
"""

import argparse
import asyncio
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
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from local import agent, faults
from local.behaviours import REFUSALS, read_behaviour
from local.guard import local_only
from local.own_agent import forward_to

SESSION_HEADER = "x-amzn-bedrock-agentcore-runtime-session-id"
AGENT_FAILED = (
    "Received error ({status}) from runtime. "
    "Please check your CloudWatch logs for more information."
)


class Runtime:
    """Passes invocations on to an agent, and keeps count of what reached it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._reached: Counter[str] = Counter()
        self._refused: Counter[str] = Counter()
        self._sessions: dict[str, str] = {}
        self._reports: dict[str, dict[str, str]] = {}
        self._stopped: list[str] = []
        self._running: list[str] = []
        self._calls: dict[str, _Call] = {}

    async def invoke(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one InvokeAgentRuntime call."""
        request = Request(scope, receive)
        body = await request.body()
        payload = _read_payload(body)
        task_id = str(payload.get("task_id") or payload.get("runId", ""))  # AG-UI's name for it
        prompt = str(payload.get("prompt", ""))
        refusal = self._refuse(task_id, prompt)
        if refusal:
            await refusal(scope, receive, send)
            return
        session = request.headers.get(SESSION_HEADER, "")
        self._reached[task_id] += 1
        self._sessions[task_id] = session
        if "report" in payload:
            self._reports[task_id] = payload["report"]
        behaviour, _ = read_behaviour(prompt)
        call = self._calls[session] = _Call(session, behaviour, body, send)
        inner = {**scope, "path": "/invocations", "raw_path": b"/invocations", "root_path": ""}
        run = asyncio.ensure_future(self._app(inner, call.receive, call.send))
        self._running.append(task_id)
        run.add_done_callback(lambda _: self._running.remove(task_id))
        await call.watch(run, receive)

    async def stop(self, request: Request) -> JSONResponse:
        """Serves one StopRuntimeSession call: 404 for a session that never was."""
        session = request.headers.get(SESSION_HEADER, "")
        self._stopped.append(session)
        call = self._calls.get(session)
        if call is None:
            return _error(404, "ResourceNotFoundException", f"Session {session} not found")
        call.stop()
        return JSONResponse({}, headers={SESSION_HEADER: session})

    async def report(self, _: Request) -> JSONResponse:
        """Tells what was asked of the runtime: counts and sessions by task, and who was stopped.

        "reached" counts the runs that the agent began, "refused" those that it never saw; "reports"
        is where each task may be reported on, and the token for it.
        """
        return JSONResponse(
            {
                "reached": self._reached,
                "refused": self._refused,
                "sessions": self._sessions,
                "reports": self._reports,
                "stopped": self._stopped,
                "running": self._running,
            }
        )

    def _refuse(self, task_id: str, prompt: str) -> JSONResponse | None:
        behaviour, count = read_behaviour(prompt)
        if behaviour not in REFUSALS or self._refused[task_id] >= (count or 1):
            return None
        self._refused[task_id] += 1
        status, code = REFUSALS[behaviour]
        return _error(status, code, "The sample agent was told to be refused.")


class _Call:
    """One call of the agent, whose answer is sent on while caller and session are there."""

    def __init__(self, session: str, behaviour: str, body: bytes, send: Send) -> None:
        self._session = session
        self._behaviour = behaviour
        self._body: bytes | None = body
        self._send = send
        self._stopped = asyncio.Event()
        # What the sample agent looks at, from its own thread, to be gone with its session.
        self._over = faults.stopped_sessions[session] = threading.Event()
        self._abandoned = False
        self._started = False
        self._failed_with = 0

    def stop(self) -> None:
        """Ends the session: its answer breaks off, unless its prompt wants it otherwise."""
        if self._behaviour != "unstoppable":
            self._over.set()
            if self._behaviour != "graceful":
                self._stopped.set()

    async def watch(self, run: "asyncio.Future[None]", receive: Receive) -> None:
        """Waits for the run's end, its session's, or its caller's leaving, and ends it then."""
        stopped = asyncio.ensure_future(self._stopped.wait())
        left = asyncio.ensure_future(_disconnect(receive))
        ends: set[asyncio.Future[Any]] = {run, stopped, left}
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopped.cancel()
            left.cancel()
        if self._stopped.is_set():
            await self._break_off(run)
        elif run.done():
            run.result()
        else:
            self._abandon(run)

    async def receive(self) -> Message:
        """Gives the agent the request; that its caller has left it learns by being cancelled."""
        if self._body is None:
            await asyncio.Event().wait()
        body, self._body = self._body, None
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(self, message: Message) -> None:
        """Sends the agent's answer on, what is no success as AgentCore's 424."""
        # Stopped: the agent may hear of it, and answer, before whoever watches it does.
        if self._abandoned or self._stopped.is_set():
            raise ConnectionAbortedError("nobody listens any more")
        if message["type"] == "http.response.start":
            own = any(name == b"x-amzn-errortype" for name, _ in message["headers"])
            self._failed_with = 0 if own or 200 <= message["status"] < 300 else message["status"]
            if self._failed_with:
                return
            self._started = True
            headers = [*message["headers"], (SESSION_HEADER.encode(), self._session.encode())]
            message = {**message, "headers": headers}
        elif self._failed_with:
            if not message.get("more_body"):
                await self._send_failure(self._failed_with)
            return
        await self._send(message)

    async def _break_off(self, run: "asyncio.Future[None]") -> None:
        self._abandon(run)
        if not self._started:
            await self._send_failure(502)
            return
        # An answer that is cut, not one that ends: the server drops the connection.
        raise ConnectionAbortedError("the session was stopped")

    def _abandon(self, run: "asyncio.Future[None]") -> None:
        """Ends a run without waiting for it: the SDK lets go only when its agent says something."""
        self._over.set()
        self._abandoned = True
        run.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
        run.cancel()

    async def _send_failure(self, status: int) -> None:
        response = _error(424, "RuntimeClientError", AGENT_FAILED.format(status=status))
        start = {"status": response.status_code, "headers": response.raw_headers}
        await self._send({"type": "http.response.start", **start})
        await self._send({"type": "http.response.body", "body": bytes(response.body)})


def build_server(app: ASGIApp = agent.app, protocol: str = "HTTP") -> Starlette:
    """Returns the ASGI application that speaks AgentCore's calls for an agent of this protocol."""
    runtime = Runtime(app)

    async def dispatch(scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        if path.endswith("/invocations"):
            await runtime.invoke(scope, receive, send)
        elif path.endswith("/stopruntimesession"):
            response = await runtime.stop(Request(scope, receive))
            await response(scope, receive, send)
        elif scope["method"] == "GET":
            about = {"status": "READY", "protocolConfiguration": {"serverProtocol": protocol}}
            await JSONResponse(about)(scope, receive, send)
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
    """Serves an agent on 127.0.0.1 until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m local.runtime", description=__doc__)
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--socket", type=int, help="a listening socket to serve on instead")
    parser.add_argument("--agent", metavar="URL", help="an agent of your own (default: the sample)")
    parser.add_argument("--protocol", choices=("HTTP", "AGUI"), default="HTTP")
    options = parser.parse_args()
    if options.socket is None:
        listener = socket.create_server(("127.0.0.1", options.port), backlog=256)
    else:
        listener = socket.socket(fileno=options.socket)
    app = forward_to(options.agent) if options.agent else agent.app
    config = uvicorn.Config(
        local_only(build_server(app, options.protocol)),
        log_level="warning",
        timeout_graceful_shutdown=1,
    )
    with contextlib.suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets=[listener])


async def _disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _read_payload(body: bytes) -> dict[str, Any]:
    """Returns the payload, empty if it is no object; judging it is the agent's."""
    try:
        payload: Any = json.loads(body)
    except ValueError:
        return {}
    return payload if isinstance(payload, dict) else {}


def _error(status: int, code: str, message: str) -> JSONResponse:
    return JSONResponse({"message": message}, status, {"x-amzn-errortype": code})


if __name__ == "__main__":
    main()
