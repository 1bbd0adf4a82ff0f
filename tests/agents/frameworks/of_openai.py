"""Agents of the OpenAI Agents SDK, and answers of OpenAI's own APIs."""

import json
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import common
from agents import (
    Agent,
    Model,
    ModelResponse,
    Runner,
    Usage,
    function_tool,
    set_tracing_disabled,
)
from common import ANSWER, FAILING, TURNS, dumped, each, pieces, same
from openai.types.chat import ChatCompletionChunk
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import BaseModel, TypeAdapter

set_tracing_disabled(True)
EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)


class Scripted(Model):
    """Says what it is told, turn by turn."""

    def __init__(self, *turns: Any) -> None:
        self.turns = list(turns)
        self.count = 0

    def output(self) -> list[Any]:
        text, calls = common.next_of(self.turns)
        self.count += 1
        content = [{"text": text, "type": "output_text", "annotations": []}]
        message = {"id": f"msg_{self.count}", "role": "assistant", "type": "message"}
        said = [message | {"status": "completed", "content": content}] if text else []
        uses = [
            {"name": name, "arguments": json.dumps(args), "call_id": f"c{name}"}
            | {"type": "function_call"}
            for name, args in calls
        ]
        return response(said + uses).output

    async def get_response(self, *_: Any, **__: Any) -> ModelResponse:
        return ModelResponse(output=self.output(), usage=Usage(), response_id="resp_1")

    async def stream_response(self, *_: Any, **__: Any) -> AsyncIterator[Any]:
        output = self.output()
        events: list[dict[str, Any]] = []
        for item in output:
            whole = item.model_dump()
            events.append({"type": "response.output_item.added", "item": whole | {"content": []}})
            for piece in pieces(item.content[0].text) if item.type == "message" else ():
                delta = {"content_index": 0, "delta": piece, "item_id": item.id, "logprobs": []}
                events.append({"type": "response.output_text.delta"} | delta)
            events.append({"type": "response.output_item.done", "item": whole})
        for number, event in enumerate(events):
            yield EVENT.validate_python(event | {"output_index": 0, "sequence_number": number})
        done = {"type": "response.completed", "response": response(output).model_dump()}
        yield EVENT.validate_python(done | {"sequence_number": len(events)})


def response(output: list[Any]) -> Response:
    """A whole answer of the Responses API."""
    options = {"tool_choice": "auto", "tools": [], "parallel_tool_calls": False}
    about = {"id": "resp_1", "created_at": 1, "model": "fake", "object": "response"}
    return Response.model_validate(about | options | {"output": output})


class Found(BaseModel):
    """What was found; a dict is not strict enough for this SDK."""

    response: str
    vendors: list[str]


FOUND = json.dumps({"response": ANSWER, "vendors": ["Green Fern"]})
TOOLS = [function_tool(common.find_vendors)]


def agent(*turns: Any, **options: Any) -> Agent:
    """An agent that says these turns."""
    model = Scripted(*(turns or TURNS))
    return Agent(name="finder", instructions="Find", model=model, tools=TOOLS, **options)


structured = partial(agent, TURNS[0], (FOUND, []), output_type=Found)
failing = partial(agent, *FAILING)


def handing_over() -> Agent:
    """An agent that hands over to another."""
    writer = Agent(name="writer", instructions="Write", model=Scripted(TURNS[1]))
    return agent(TURNS[0], ("", [("transfer_to_writer", {})]), handoffs=[writer])


def returned(give: Any, make: Any = agent) -> Any:
    """Returns what is given of the result."""
    return common.returned(lambda prompt: Runner.run(make(), prompt), give)


def streamed(give: Any, make: Any = agent) -> Any:
    """Yields what is given of each event."""
    return each(lambda prompt: Runner.run_streamed(make(), prompt).stream_events(), give)


def raw(event: Any) -> Any:
    """The event of the API in an event of the SDK."""
    return event.data if event.type == "raw_response_event" else None


async def chunks(_: Any) -> AsyncIterator[Any]:
    """The chunks of a chat completion."""
    about = {"id": "chatcmpl-1", "created": 1, "model": "fake", "object": "chat.completion.chunk"}
    call = {"index": 0, "id": "c1", "function": {"name": "find_vendors", "arguments": "{}"}}
    first = {"role": "assistant", "content": ""}
    for delta in [{"tool_calls": [call]}, first, *({"content": one} for one in pieces(ANSWER)), {}]:
        choice = {"index": 0, "delta": delta, "finish_reason": None if delta else "stop"}
        yield ChatCompletionChunk.model_validate(about | {"choices": [choice]})


AGENTS = {
    "return result": returned(same),
    "return final_output": returned(lambda it: it.final_output),
    'return {"final_output"}': returned(lambda it: {"final_output": it.final_output}),
    "return to_input_list()": returned(lambda it: it.to_input_list()),
    "return final_output: structured": returned(lambda it: it.final_output, structured),
    "events": streamed(same),
    "raw events": streamed(raw),
    "raw events: structured": streamed(raw, structured),
    "raw events: failing": streamed(raw, failing),
    "raw events: handing over": streamed(raw, handing_over),
    "type and raw event": streamed(lambda it: {"type": it.type, "data": raw(it)}),
    "chat completion chunks": each(chunks, dumped),
    "response": lambda _: response(Scripted(TURNS[1]).output()),
}
