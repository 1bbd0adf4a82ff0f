"""The way to an agent of one's own: a server with `/invocations` and `/ping`, as AgentCore runs it.

What it answers is passed on as it comes. What AgentCore does when an agent answers badly, or dies,
is the runtime's to do: it sees the status 502 of an agent that went away before it answered, and
an exception when it went away in the middle of its answer.
"""

from aiohttp import ClientConnectorError, ClientError, ClientSession, ClientTimeout
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

CONNECT_SECONDS = 5
# What of a call reaches an agent's container on AWS. Nothing else does, also none of the headers that
# an HTTP client sets by itself: an agent that needs one would work here, and only here.
_PASSED_ON = {"accept", "content-type", "traceparent", "tracestate", "baggage", "x-amzn-trace-id"}
_SESSION = "x-amzn-bedrock-agentcore-runtime-"
_NOT_SET = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")


def forward_to(url: str) -> ASGIApp:
    """Returns an ASGI application that answers with what the agent at this address answers."""

    async def forward(scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        body = await request.body()
        # An agent may take as long as it likes: how long is the caller's to say.
        timeout = ClientTimeout(total=None, sock_connect=CONNECT_SECONDS)
        async with ClientSession(timeout=timeout, auto_decompress=False) as client:
            call = client.request(
                request.method,
                url + request.url.path,
                data=body,
                headers={
                    name: value
                    for name, value in request.headers.items()
                    if name in _PASSED_ON or name.startswith(_SESSION)
                },
                skip_auto_headers=_NOT_SET,
                allow_redirects=False,
            )
            try:
                answer = await call
            except ClientConnectorError:
                await _not_there(url)(scope, receive, send)
                return
            except ClientError:
                await Response(status_code=502)(scope, receive, send)
                return
            async with answer:
                content_type = answer.headers.get("Content-Type", "application/json")
                headers = [(b"content-type", content_type.encode("latin-1"))]
                start = {"status": answer.status, "headers": headers}
                await send({"type": "http.response.start", **start})
                async for piece in answer.content.iter_any():
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
                await send({"type": "http.response.body", "body": b""})

    return forward


def _not_there(url: str) -> JSONResponse:
    # The status and the code are AgentCore's for a container that does not come up.
    return JSONResponse(
        {"message": f"Nothing answers at {url}: is your agent running?"},
        424,
        {"x-amzn-errortype": "RuntimeClientError"},
    )
