"""The sample agent: a real AgentCore agent, with a catalogue in the place of a model.

It reads a service, a city and a budget out of the prompt, "e-mails" the vendors that fit (a record,
no mail leaves) and answers with vendors, quotes and e-mails. The same prompt gives the same answer,
timestamps aside.

Payload: {"prompt": "Find me a landscaper in Charlotte under $300", "task_id": "…"}.
Where reports are allowed it has "report" too, which only "[agent: report]" makes use of. Of a task
that follows another one, what the prompt leaves out is taken from the prompts in "history", and
"resume" answers what "[agent: ask]" made it ask.
It streams {"message": "…"} for progress, the vendors so far after each e-mail, pieces of text, and
the answer object last.
A prompt with words like "[agent: fail]" makes it misbehave: see faults.py.
"""

import asyncio
import inspect
import os
import re
from collections.abc import AsyncIterator
from typing import Any

from bedrock_agentcore import BedrockAgentCoreApp, RequestContext

from local import PACE_VARIABLE, faults
from local.behaviours import REPORTING, read_behaviour
from local.reporting import start_reporting
from local.vendors import (
    answer_so_far,
    answer_to_booking,
    ask_to_book,
    build_answer,
    carry_out,
    in_context,
    progress_lines,
)

app = BedrockAgentCoreApp()


@app.entrypoint
async def invoke(payload: dict[str, Any], context: RequestContext) -> Any:
    """Answers one prompt with a stream, or with what the prompt tells it to do instead."""
    prompt = payload.get("prompt")
    if not isinstance(prompt, str) or not prompt.strip():
        return {"error": 'The payload needs a "prompt".'}
    session = context.session_id or ""
    behaviour, _ = read_behaviour(prompt)
    if behaviour in REPORTING and "report" in payload:
        return accept(payload, session, behaviour)
    wish = faults.read_wish(payload, session)
    answer = wish.grant() if wish else converse(*consider(prompt, behaviour, payload))
    return await answer if inspect.isawaitable(answer) else answer


def accept(payload: dict[str, Any], session: str, behaviour: str) -> dict[str, Any]:
    """Accepts a task, to report on it later; until then /ping says that this agent is busy."""
    if behaviour != "accept":
        task = app.add_async_task("report")
        stopped = faults.stopped_sessions[session]
        start_reporting(payload, stopped, lambda: app.complete_async_task(task))
    return {"accepted": True}


def consider(
    prompt: str, behaviour: str, payload: dict[str, Any]
) -> tuple[list[str], dict[str, Any]]:
    """Returns what it says while it works, and what it will answer."""
    said = [turn["content"] for turn in payload.get("history", []) if turn["role"] == "user"]
    prompt = in_context(prompt, said)
    answer = build_answer(prompt)
    if resume := payload.get("resume"):
        return ["Reading your answer"], answer_to_booking(answer, resume[0].get("payload"))
    lines = progress_lines(prompt, answer)
    return lines, ask_to_book(answer) if behaviour == "ask" else answer


async def converse(lines: list[str], answer: dict[str, Any]) -> AsyncIterator[Any]:
    """Streams progress, whom it has e-mailed, the response in pieces, and the answer object."""
    contacted = 0
    for line in lines:
        if carry_out(line, answer):
            # First, so that whoever is stopped after any line has said whom it wrote to.
            contacted += 1
            yield answer_so_far(answer, contacted)
        yield {"message": line}
        await asyncio.sleep(float(os.environ.get(PACE_VARIABLE, "0")))
    for sentence in re.findall(r".+?[.!?](?: |$)", answer["response"]):
        yield sentence
    yield answer
