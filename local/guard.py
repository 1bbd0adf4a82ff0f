"""Who may talk to the servers of a local run: programs and web pages of this machine, nobody else.

Every web page that a browser here shows can send requests to 127.0.0.1, some without asking first,
and under a name of its own (DNS rebinding) it can read the answers too. A local AWS would make a
function for it and run its code. So each server asks this before it does anything:

    Host             a name of this machine
    Origin           absent, or of a page served from this machine (a frontend's dev server, say)
    Sec-Fetch-Site   not "cross-site", unless such an Origin stands beside it: what a browser loads
                     without an Origin, an image or a link

    https://developer.mozilla.org/en-US/docs/Web/HTTP/Reference/Headers/Sec-Fetch-Site
"""

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # --help needs nothing that is not in Python itself
    from starlette.types import ASGIApp, Receive, Scope, Send

_HERE = r"(?:(?:[a-z0-9-]+\.)*localhost|127\.0\.0\.1|\[::1\])(?::[0-9]+)?"
_HOST = re.compile(_HERE, re.IGNORECASE)
_ORIGIN = re.compile(rf"https?://{_HERE}", re.IGNORECASE)


def refusal(headers: Iterable[tuple[str, str]]) -> str:
    """Why a request with these headers is refused, as a sentence; empty if it is not."""
    known = [(name.lower(), value.strip()) for name, value in headers]
    hosts = [value for name, value in known if name == "host"]
    origins = [value for name, value in known if name == "origin"]
    if len(hosts) != 1 or not _HOST.fullmatch(hosts[0]):
        return "This server only answers to names of this machine, such as 127.0.0.1 or localhost."
    if not all(_ORIGIN.fullmatch(origin) for origin in origins):
        return "This server only answers web pages that are served from this machine."
    if not origins and ("sec-fetch-site", "cross-site") in known:
        return "This server does not follow links of web pages. Type its address instead."
    return ""


def local_only(app: "ASGIApp") -> "ASGIApp":
    """The same application, which refuses with 403 whoever is not of this machine."""
    from starlette.responses import PlainTextResponse  # noqa: PLC0415 - likewise

    async def guarded(scope: "Scope", receive: "Receive", send: "Send") -> None:
        pairs = scope.get("headers", ())
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in pairs]
        reason = refusal(headers) if scope["type"] != "lifespan" else ""
        if not reason:
            await app(scope, receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008})  # before it is accepted: a 403
        else:
            await PlainTextResponse(f"{reason}\n", 403)(scope, receive, send)

    return guarded
