"""Agents of the OpenAI Agents SDK, and answers of OpenAI's own APIs."""

import json
from collections.abc import AsyncIterator
from typing import Any

from agents import (
    Agent,
    ItemHelpers,
    Model,
    ModelResponse,
    Runner,
    Usage,
    function_tool,
    set_tracing_disabled,
)
from common import ANSWER, FINDING, FOUND, SEARCHING, pieces
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import (
    Response,
    ResponseCompletedEvent,
    ResponseFunctionToolCall,
    ResponseOutputItemAddedEvent,
    ResponseOutputItemDoneEvent,
    ResponseOutputMessage,
    ResponseOutputText,
    ResponseTextDeltaEvent,
)
from pydantic import BaseModel

REQUIREMENTS = "openai-agents==0.24.0"
set_tracing_disabled(True)


class Scripted(Model):
    def __init__(self, *turns: Any) -> None:
        self.turns = list(turns)
        self.count = 0

    def output(self) -> list[Any]:
        turn = self.turns.pop(0)
        if isinstance(turn, Exception):
            raise turn
        text, calls = turn
        self.count += 1
        said = (
            [
                ResponseOutputMessage(
                    id=f"msg_{self.count}",
                    role="assistant",
                    status="completed",
                    type="message",
                    content=[ResponseOutputText(text=text, type="output_text", annotations=[])],
                )
            ]
            if text
            else []
        )
        return said + [
            ResponseFunctionToolCall(
                name=name, arguments=json.dumps(args), call_id=f"call_{name}", type="function_call"
            )
            for name, args in calls
        ]

    async def get_response(self, *_: Any, **__: Any) -> ModelResponse:
        return ModelResponse(output=self.output(), usage=Usage(), response_id="resp_1")

    async def stream_response(self, *_: Any, **__: Any) -> AsyncIterator[Any]:
        output = self.output()
        number = 0
        for index, item in enumerate(output):
            yield ResponseOutputItemAddedEvent(
                item=item,
                output_index=index,
                sequence_number=(number := number + 1),
                type="response.output_item.added",
            )
            if isinstance(item, ResponseOutputMessage):
                for piece in pieces(item.content[0].text):
                    yield ResponseTextDeltaEvent(
                        content_index=0,
                        delta=piece,
                        item_id=item.id,
                        output_index=index,
                        sequence_number=(number := number + 1),
                        type="response.output_text.delta",
                        logprobs=[],
                    )
            yield ResponseOutputItemDoneEvent(
                item=item,
                output_index=index,
                sequence_number=(number := number + 1),
                type="response.output_item.done",
            )
        response = Response(
            id="resp_1",
            created_at=1,
            model="fake",
            object="response",
            output=output,
            tool_choice="auto",
            tools=[],
            parallel_tool_calls=False,
        )
        yield ResponseCompletedEvent(
            response=response, sequence_number=number + 1, type="response.completed"
        )


@function_tool
def find_vendors(city: str) -> str:
    """Finds vendors."""
    return FOUND


class Found(BaseModel):
    response: str
    vendors: list[str]


def agent(*turns: Any, **options: Any) -> Agent:
    turns = turns or ((SEARCHING, [FINDING]), (ANSWER, []))
    return Agent(
        name="finder", instructions="Find", model=Scripted(*turns), tools=[find_vendors], **options
    )


def structured() -> Agent:
    text = json.dumps({"response": ANSWER, "vendors": ["Green Fern"]})
    return agent((SEARCHING, [FINDING]), (text, []), output_type=Found)


def failing() -> Agent:
    return agent((SEARCHING, [FINDING]), RuntimeError("The model is on strike."))


def handing_over() -> Agent:
    writer = Agent(name="writer", instructions="Write", model=Scripted((ANSWER, [])))
    return agent((SEARCHING, [FINDING]), ("", [("transfer_to_writer", {})]), handoffs=[writer])


def returned(give: Any, make: Any = agent) -> Any:
    async def invoke(payload: dict[str, Any]) -> Any:
        return give(await Runner.run(make(), payload["prompt"]))

    return invoke


def streamed(give: Any, make: Any = agent) -> Any:
    async def invoke(payload: dict[str, Any]) -> AsyncIterator[Any]:
        result = Runner.run_streamed(make(), payload["prompt"])
        async for event in result.stream_events():
            if (given := give(event)) is not None:
                yield given

    return invoke


def raw(event: Any) -> Any:
    return event.data if event.type == "raw_response_event" else None


def delta(event: Any) -> Any:
    data = raw(event)
    return data.delta if isinstance(data, ResponseTextDeltaEvent) else None


def raw_dump(event: Any) -> Any:
    return event.data.model_dump() if event.type == "raw_response_event" else None


def as_documented(event: Any) -> Any:
    """As the SDK's documentation does it."""
    if event.type != "run_item_stream_event":
        return None
    if event.item.type == "tool_call_item":
        return {"type": "tool_call", "name": event.item.raw_item.name}
    if event.item.type == "tool_call_output_item":
        return {"type": "tool_output", "output": event.item.output}
    if event.item.type == "message_output_item":
        return {"type": "message", "content": ItemHelpers.text_message_output(event.item)}
    return None


async def chunks(payload: dict[str, Any]) -> AsyncIterator[Any]:
    base = {"id": "chatcmpl-1", "created": 1, "model": "fake", "object": "chat.completion.chunk"}
    first = {"role": "assistant", "content": ""}
    call = {
        "index": 0,
        "id": "c1",
        "function": {"name": "find_vendors", "arguments": "{}"},
        "type": "function",
    }
    deltas = [first, *({"content": piece} for piece in pieces(ANSWER))]
    for one in [{"tool_calls": [call]}, *deltas]:
        choice = {"index": 0, "delta": one, "finish_reason": None}
        yield ChatCompletionChunk.model_validate(base | {"choices": [choice]})
    yield ChatCompletionChunk.model_validate(
        base | {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    )
    yield ChatCompletionChunk.model_validate(
        base
        | {"choices": [], "usage": {"completion_tokens": 1, "prompt_tokens": 1, "total_tokens": 2}}
    )


def completion(payload: dict[str, Any]) -> Any:
    message = {"role": "assistant", "content": ANSWER}
    return ChatCompletion.model_validate(
        {
            "id": "chatcmpl-1",
            "created": 1,
            "model": "fake",
            "object": "chat.completion",
            "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
        }
    )


def response(payload: dict[str, Any]) -> Any:
    model = Scripted((ANSWER, []))
    return Response(
        id="resp_1",
        created_at=1,
        model="fake",
        object="response",
        output=model.output(),
        tool_choice="auto",
        tools=[],
        parallel_tool_calls=False,
    )


AGENTS = {
    "return result": returned(lambda it: it),
    "return final_output": returned(lambda it: it.final_output),
    "return str(result)": returned(str),
    'return {"final_output"}': returned(lambda it: {"final_output": it.final_output}),
    "return to_input_list()": returned(lambda it: it.to_input_list()),
    "return new_items": returned(lambda it: it.new_items),
    "return final_output, structured": returned(lambda it: it.final_output, structured),
    "return final_output, handing over": returned(lambda it: it.final_output, handing_over),
    "return failing": returned(lambda it: it.final_output, failing),
    "stream events": streamed(lambda it: it),
    "stream raw data": streamed(raw),
    "stream raw data, structured": streamed(raw, structured),
    "stream raw data, failing": streamed(raw, failing),
    "stream raw data, handing over": streamed(raw, handing_over),
    "stream raw data model_dump": streamed(raw_dump),
    "stream raw event type and data": streamed(lambda it: {"type": it.type, "data": raw(it)}),
    "stream deltas": streamed(delta),
    "stream as documented": streamed(as_documented),
    "chat completion": completion,
    "chat chunks": chunks,
    "response": response,
}
