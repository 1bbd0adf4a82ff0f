"""Agents and teams of AutoGen."""

import json
from functools import partial
from typing import Any

import common
from autogen_agentchat.agents import AssistantAgent
from autogen_agentchat.base import TaskResult
from autogen_agentchat.teams import RoundRobinGroupChat
from autogen_core import FunctionCall
from autogen_core.models import CreateResult, ModelInfo, RequestUsage
from autogen_ext.models.replay import ReplayChatCompletionClient
from common import ANSWER, FIND, SEARCHING, each, same

INFO = ModelInfo(
    vision=False, function_calling=True, json_output=True, family="x", structured_output=True
)


def agent(*turns: Any, name: str = "finder", **options: Any) -> AssistantAgent:
    """An agent that says these turns."""
    tool, args = FIND
    find = CreateResult(
        finish_reason="function_calls",
        content=[FunctionCall(id="c1", name=tool, arguments=json.dumps(args))],
        usage=RequestUsage(prompt_tokens=1, completion_tokens=1),
        cached=False,
        thought=SEARCHING,
    )
    client = ReplayChatCompletionClient(list(turns or (find, ANSWER)), model_info=INFO)
    options = {"tools": [common.find_vendors], "reflect_on_tool_use": True} | options
    return AssistantAgent(name, client, **options)


streaming = partial(agent, model_client_stream=True)
unreflecting = partial(agent, reflect_on_tool_use=False)  # it ends with what its tools gave


def team() -> RoundRobinGroupChat:
    """Two agents that take turns."""
    writer = agent("Both can come on Friday.", name="writer", tools=[])
    return RoundRobinGroupChat([agent(), writer], max_turns=2)


def returned(give: Any, make: Any = agent) -> Any:
    """Returns what is given of the result."""
    return common.returned(lambda prompt: make().run(task=prompt), give)


def streamed(give: Any, make: Any = agent) -> Any:
    """Yields what is given of each message, and of the result."""
    return each(lambda prompt: make().run_stream(task=prompt), give)


def dump(event: Any) -> Any:
    """A message or a result as JSON."""
    if isinstance(event, TaskResult):
        return {"stop_reason": event.stop_reason, "messages": [dump(one) for one in event.messages]}
    return event.model_dump(mode="json")


def source_and_content(event: Any) -> Any:
    """Who says what."""
    is_result = isinstance(event, TaskResult)
    return None if is_result else {"source": event.source, "content": event.to_text()}


AGENTS = {
    "return result": returned(same),
    "return result dumped": returned(dump),
    "return result dumped: unreflecting": returned(dump, unreflecting),
    "return result dumped: team": returned(dump, team),
    "return messages[-1].content": returned(lambda it: it.messages[-1].content),
    "messages": streamed(same),
    "messages dumped": streamed(dump),
    "messages dumped: streaming": streamed(dump, streaming),
    "messages dumped: team": streamed(dump, team),
    "source and content": streamed(source_and_content),
}
