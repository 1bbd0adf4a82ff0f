"""The HTTP API between people and the function: a request as its event, a response as its reply."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

Json = Any


@dataclass
class Reply:
    """What a client gets."""

    status: int
    headers: dict[str, str]
    body: Json
    text: str
    faults: int  # that its function met


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
