"""Crews of CrewAI."""

import json
import os
from typing import Any

os.environ |= {"CREWAI_DISABLE_TELEMETRY": "true", "CREWAI_TRACING_ENABLED": "false"}

from common import ANSWER, FOUND, OBJECT, SEARCHING, STRIKE, next_of, same
from crewai import Agent, BaseLLM, Crew, Task
from crewai.flow.flow import Flow, start
from crewai.tools import tool
from pydantic import BaseModel

ACT = f'Thought: {SEARCHING}\nAction: find_vendors\nAction Input: {{"city": "Charlotte"}}'
DONE = "Thought: I now know the final answer\nFinal Answer: "


class Scripted(BaseLLM):
    """Says what it is told, turn by turn."""

    def __init__(self, *turns: Any) -> None:
        super().__init__(model="fake")
        self._turns = list(turns)

    def call(self, *_: Any, **__: Any) -> str:
        return str(next_of(self._turns))

    def supports_function_calling(self) -> bool:
        return False


class Found(BaseModel):
    """What was found."""

    response: str
    vendors: list[dict[str, Any]]


@tool("find_vendors")
def find_vendors(city: str) -> str:
    """Finds vendors."""
    return FOUND


def crew(*turns: Any, **options: Any) -> Crew:
    """A crew of one that says these turns."""
    model = Scripted(*(turns or (ACT, DONE + ANSWER)))
    one = Agent(role="Finder", goal="Find", backstory="x", llm=model, tools=[find_vendors])
    task = Task(description="{prompt}", expected_output="text", agent=one, **options)
    return Crew(agents=[one], tasks=[task])


def structured(kind: str) -> Any:
    """A crew with a structured output."""
    return lambda: crew(ACT, DONE + json.dumps(OBJECT), **{kind: Found})


def failing() -> Crew:
    """A crew whose model fails, however often it is asked."""
    return crew(ACT, *[STRIKE] * 3)


def returned(give: Any, make: Any = crew) -> Any:
    """Returns what is given of the output."""
    return lambda payload: give(make().kickoff(inputs={"prompt": payload["prompt"]}))


class Finding(Flow):
    """A flow of one step."""

    @start()
    def answer(self) -> str:
        return ANSWER


async def flow(_: Any) -> Any:
    """Returns what a flow gives."""
    return await Finding().kickoff_async()


AGENTS = {
    "return output": returned(same),
    "return output.raw": returned(lambda it: it.raw),
    "return output: output_json": returned(same, structured("output_json")),
    "return output: output_pydantic": returned(same, structured("output_pydantic")),
    "return output.pydantic": returned(lambda it: it.pydantic, structured("output_pydantic")),
    "return output: failing": returned(same, failing),
    "return flow": flow,
    "return flow: not awaited": lambda _: Finding().kickoff_async(),
}
