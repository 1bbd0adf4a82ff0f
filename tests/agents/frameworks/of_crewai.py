"""Crews of CrewAI."""

import json
import os
from functools import partial
from typing import Any

os.environ |= {"CREWAI_DISABLE_TELEMETRY": "true", "CREWAI_TRACING_ENABLED": "false"}

import common
from common import ANSWER, OBJECT, SEARCHING, STRIKE, Found, same
from crewai import Agent, BaseLLM, Crew, Task
from crewai.tools import tool

ACT = f'Thought: {SEARCHING}\nAction: find_vendors\nAction Input: {{"city": "Charlotte"}}'
DONE = "Thought: I now know the final answer\nFinal Answer: "
TOOLS = [tool("find_vendors")(common.find_vendors)]


class Scripted(BaseLLM):
    """Says what it is told, turn by turn."""

    def __init__(self, *turns: Any) -> None:
        super().__init__(model="fake")
        self._turns = list(turns)

    def call(self, *_: Any, **__: Any) -> str:
        return str(common.next_of(self._turns))

    def supports_function_calling(self) -> bool:
        return False


def crew(*turns: Any, **options: Any) -> Crew:
    """A crew of one that says these turns."""
    model = Scripted(*(turns or (ACT, DONE + ANSWER)))
    one = Agent(role="Finder", goal="Find", backstory="x", llm=model, tools=TOOLS)
    task = Task(description="{prompt}", expected_output="text", agent=one, **options)
    return Crew(agents=[one], tasks=[task])


structured = partial(crew, ACT, DONE + json.dumps(OBJECT))
failing = partial(crew, ACT, *[STRIKE] * 3)  # however often it is asked


def returned(give: Any, make: Any = crew) -> Any:
    """Returns what is given of the output."""
    return lambda payload: give(make().kickoff(inputs={"prompt": payload["prompt"]}))


as_pydantic = partial(structured, output_pydantic=Found)
AGENTS = {
    "return output": returned(same),
    "return output.raw": returned(lambda it: it.raw),
    "return output: output_json": returned(same, partial(structured, output_json=Found)),
    "return output: output_pydantic": returned(same, as_pydantic),
    "return output.pydantic": returned(lambda it: it.pydantic, as_pydantic),
    "return output: failing": returned(same, failing),
}
