"""The HTTP API between people and the function: a request as its event, a response as its reply."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from simulation.world import Sandbox

Json = Any


@dataclass
class Reply:
    """What a client gets."""

    owner: str | None  # who gets it
    method: str
    path: str
    status: int
    headers: dict[str, str]
    body: Json
    text: str
    sandbox: Sandbox  # of the function that gave it

    @property
    def started(self) -> float:
        """When that function began."""
        return self.sandbox.started


@dataclass
class Report:
    """What an agent reports in one request, and whether it may."""

    task_id: str
    id: str
    token: str
    messages: tuple[str, ...] = ()
    answer: Json = None
    error: str | None = None
    is_right: bool = True  # whether the token is the task's
    is_usable: bool = True
    is_too_large: bool = False

    @property
    def is_final(self) -> bool:
        """Whether it is the end of the work."""
        return self.answer is not None or self.error is not None

    def headers(self) -> dict[str, str]:
        """With its right to report."""
        return {"authorization": f"Bearer {self.token}"}

    def body(self) -> Json:
        """As it is sent."""
        if not self.is_usable:
            return {"report_id": self.id, "messages": self.token}
        said: Json = {"report_id": self.id}
        said |= {"messages": [*self.messages]} if self.messages else {}
        said |= {"answer": self.answer} if self.answer is not None else {}
        said |= {"error": self.error} if self.error is not None else {}
        return said | ({"padding": "x" * 20_000} if self.is_too_large else {})

    def lines(self) -> list[str]:
        """As the timeline may have them."""
        return [line.replace(self.token, "[token]") for line in self.messages]


def http_event(
    method: str, path: str, body: Json, headers: dict[str, str], owner: str | None
) -> Json:
    """An HTTP API's event, payload 2.0."""
    route, _, query = path.partition("?")
    context: dict[str, Any] = {"http": {"method": method}, "stage": "$default"}
    if owner:
        context["authorizer"] = {"jwt": {"claims": {"sub": owner}}}
    return {
        "version": "2.0",
        "rawPath": route,
        "headers": headers,
        "queryStringParameters": dict(pair.split("=", 1) for pair in query.split("&") if pair),
        "requestContext": context,
        "body": json.dumps(body) if body is not None else None,
        "isBase64Encoded": False,
    }
