"""Whoever calls the HTTP API: a request on its way through the gateway, and its reply."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from simulation.backend import Backend
from simulation.gateway import Reply, Report, http_event

Json = Any

GATEWAY_LATENCIES = (0.01, 0.001, 0.2)


class Caller:
    """One client, signed in or not."""

    def __init__(self, backend: Backend, owner: str | None) -> None:
        self.backend = backend
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
        world, answers = self.world, self.backend.checks.answers
        wake = world.waker()
        event = http_event(method, path, body, headers or {}, self.owner)
        sandbox = self.backend.new_sandbox("api", f"request-{next(world.ids)}")
        sandbox.report = report
        going, coming = self.choices.pick(GATEWAY_LATENCIES), self.choices.pick(GATEWAY_LATENCIES)

        def ended(response: Json) -> None:
            answers.answered_in_time(method, path, sandbox)
            if response is not None and self.choices.chance(self.backend.reply_loss):
                world.count("gateway: reply lost")
                response = None
            wake(coming, response)

        sandbox.on_end = ended
        if world.tracing:
            world.trace(f"{method} {path} {headers or ''} as {self.owner or 'anybody'}")
        start: Callable[[], None] = lambda: self.backend.start_api(sandbox, event)  # noqa: E731
        world.after(going, start)
        response = world.wait()
        if response is None:
            world.trace("gets no answer")
            return None
        text = response.get("body") or ""
        reply = Reply(
            response["statusCode"],
            response["headers"],
            json.loads(text or "null"),
            text,
            sandbox.faults.total(),
            sandbox.started,
        )
        world.trace(f"gets {reply.status} {text[:160]}")
        answers.replied(self.owner, method, path, reply, sandbox)
        return reply
