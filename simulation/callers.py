"""Whoever calls the HTTP API: a request on its way through the gateway, and its reply."""

import json
from typing import Any

import lambda_function
from simulation.backend import Backend
from simulation.checks import answers
from simulation.checks.known import Reply, Report
from simulation.world import Json

GATEWAY_LATENCIES = (0.01, 0.001, 0.2)


class Caller:
    """One client, signed in or not."""

    def __init__(self, backend: Backend, owner: str | None) -> None:
        self.backend = backend
        self.known = backend.known
        self.world = backend.world
        self.choices = backend.world.choices
        self.owner = owner

    def request(
        self,
        method: str,
        path: str,
        body: Json = None,
        headers: dict[str, str] | None = None,
        report: Report | None = None,
    ) -> Reply | None:
        """Sends a request through the gateway; None if no answer comes back."""
        world = self.world
        sandbox = self.backend.new_sandbox("api", f"request-{next(world.ids)}")
        sandbox.report = report
        event = self._event(method, path, body, headers or {})
        delay_there, delay_back = (
            self.choices.pick(GATEWAY_LATENCIES),
            self.choices.pick(GATEWAY_LATENCIES),
        )
        world.trace(f"{method} {path} {headers or ''} as {self.owner or 'anybody'}")
        world.sleep(delay_there)
        response = self.backend.run(sandbox, lambda_function.lambda_handler, event)
        answers.answered_in_time(method, path, sandbox)
        if response is not None and self.choices.chance(self.backend.reply_loss):
            world.count("gateway: reply lost")
            response = None
        world.sleep(delay_back)
        if response is None:
            world.trace("gets no answer")
            return None
        text = response.get("body") or ""
        answer = json.loads(text or "null")
        status, reply_headers = response["statusCode"], response["headers"]
        reply = Reply(self.owner, method, path, status, reply_headers, answer, text, sandbox)
        world.trace(f"gets {reply.status} {text[:160]}")
        answers.replied(self.known, reply)
        return reply

    def _event(self, method: str, path: str, body: Json, headers: dict[str, str]) -> Json:
        """An HTTP API's event, payload 2.0."""
        route, _, query = path.partition("?")
        context: dict[str, Any] = {"http": {"method": method}, "stage": "$default"}
        if self.owner:
            context["authorizer"] = {"jwt": {"claims": {"sub": self.owner}}}
        return {
            "version": "2.0",
            "rawPath": route,
            "headers": headers,
            "queryStringParameters": dict(pair.split("=", 1) for pair in query.split("&") if pair),
            "requestContext": context,
            "body": json.dumps(body) if body is not None else None,
            "isBase64Encoded": False,
        }
