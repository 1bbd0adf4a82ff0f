"""Agents of AutoGen."""

import json
from collections.abc import AsyncIterator
from typing import Any

from autogen_agentchat.agents import AssistantAgent
from autogen_agentchat.base import TaskResult
from autogen_agentchat.conditions import MaxMessageTermination
from autogen_agentchat.messages import ModelClientStreamingChunkEvent
from autogen_agentchat.teams import RoundRobinGroupChat
from autogen_core import FunctionCall
from autogen_core.models import CreateResult, RequestUsage
from autogen_ext.models.replay import ReplayChatCompletionClient
from common import ANSWER, FINDING, FOUND, SEARCHING

REQUIREMENTS = "autogen-agentchat==0.7.5 autogen-ext==0.7.5"
INFO = {
    "vision": False,
    "function_calling": True,
    "json_output": True,
    "family": "unknown",
    "structured_output": True,
}


async def find_vendors(city: str) -> str:
    """Finds vendors."""
    return FOUND


def called(name: str, args: dict[str, Any]) -> CreateResult:
    call = FunctionCall(id=f"c{name}", name=name, arguments=json.dumps(args))
    usage = RequestUsage(prompt_tokens=1, completion_tokens=1)
    return CreateResult(
        finish_reason="function_calls", content=[call], usage=usage, cached=False, thought=SEARCHING
    )


def agent(*turns: Any, name: str = "finder", **options: Any) -> AssistantAgent:
    client = ReplayChatCompletionClient(list(turns or (called(*FINDING), ANSWER)), model_info=INFO)
    options = {
        "tools": [find_vendors],
        "reflect_on_tool_use": True,
        "model_client_stream": True,
    } | options
    return AssistantAgent(name, client, **options)


def plain() -> AssistantAgent:
    return agent(reflect_on_tool_use=False, model_client_stream=False)


def whole() -> AssistantAgent:
    return agent(model_client_stream=False)


def team() -> RoundRobinGroupChat:
    both = [
        whole(),
        agent("Both can come on Friday.", name="writer", model_client_stream=False, tools=[]),
    ]
    return RoundRobinGroupChat(both, termination_condition=MaxMessageTermination(6), max_turns=2)


def returned(give: Any, make: Any = agent) -> Any:
    async def invoke(payload: dict[str, Any]) -> Any:
        return give(await make().run(task=payload["prompt"]))

    return invoke


def streamed(give: Any = lambda it: it, make: Any = agent) -> Any:
    async def invoke(payload: dict[str, Any]) -> AsyncIterator[Any]:
        async for event in make().run_stream(task=payload["prompt"]):
            if (given := give(event)) is not None:
                yield given

    return invoke


def dump(event: Any) -> Any:
    if isinstance(event, TaskResult):
        return {"stop_reason": event.stop_reason, "messages": [dump(one) for one in event.messages]}
    return event.model_dump(mode="json")


def content(event: Any) -> Any:
    return None if isinstance(event, TaskResult) else event.to_text()


def chunk(event: Any) -> Any:
    return event.content if isinstance(event, ModelClientStreamingChunkEvent) else None


AGENTS = {
    "return result": returned(lambda it: it),
    "return result, dumped": returned(dump),
    "return messages[-1].content": returned(lambda it: it.messages[-1].content),
    "return messages[-1] dumped": returned(lambda it: dump(it.messages[-1])),
    "return result, dumped, team": returned(dump, team),
    "return result, dumped, plain": returned(dump, plain),
    "stream messages": streamed(),
    "stream messages, dumped": streamed(dump),
    "stream messages, dumped, not streaming": streamed(dump, whole),
    "stream messages, dumped, no result": streamed(
        lambda it: None if isinstance(it, TaskResult) else dump(it), whole
    ),
    "stream messages, dumped, team": streamed(dump, team),
    "stream chunks": streamed(chunk),
    "stream source and content": streamed(
        lambda it: (
            None if isinstance(it, TaskResult) else {"source": it.source, "content": it.to_text()}
        ),
        whole,
    ),
}
