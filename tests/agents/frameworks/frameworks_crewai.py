"""Crews of CrewAI."""

import os

os.environ |= {
    "CREWAI_DISABLE_TELEMETRY": "true",
    "OTEL_SDK_DISABLED": "true",
    "CREWAI_TRACING_ENABLED": "false",
}

import json
from collections.abc import Iterator
from typing import Any

from common import ANSWER, FOUND, SEARCHING
from crewai import Agent, BaseLLM, Crew, Task
from crewai.flow.flow import Flow, listen, start
from crewai.tools import tool
from pydantic import BaseModel

REQUIREMENTS = "crewai==1.15.30"


class Scripted(BaseLLM):
    def __init__(self, *turns: Any) -> None:
        super().__init__(model="fake")
        self._turns = list(turns)

    def call(self, *_: Any, **__: Any) -> str:
        turn = self._turns.pop(0)
        if isinstance(turn, Exception):
            raise turn
        return turn

    async def acall(self, *args: Any, **options: Any) -> str:
        return self.call(*args, **options)

    def supports_function_calling(self) -> bool:
        return False

    def supports_stop_words(self) -> bool:
        return False

    def get_context_window_size(self) -> int:
        return 8192


class Found(BaseModel):
    response: str
    vendors: list[dict[str, Any]]


@tool("find_vendors")
def find_vendors(city: str) -> str:
    """Finds vendors."""
    return FOUND


ACT = f'Thought: {SEARCHING}\nAction: find_vendors\nAction Input: {{"city": "Charlotte"}}'
OBJECT = {"response": ANSWER, "vendors": [{"id": "v1", "name": "Green Fern"}]}


def crew(*turns: Any, **options: Any) -> Crew:
    turns = turns or (ACT, f"Thought: I now know the final answer\nFinal Answer: {ANSWER}")
    one = Agent(
        role="Finder", goal="Find", backstory="x", llm=Scripted(*turns), tools=[find_vendors]
    )
    task = Task(description="{prompt}", expected_output="text", agent=one, **options)
    return Crew(agents=[one], tasks=[task])


def structured(kind: str) -> Any:
    text = f"Thought: I now know the final answer\nFinal Answer: {json.dumps(OBJECT)}"
    return lambda: crew(ACT, text, **{kind: Found})


def failing() -> Crew:
    return crew(
        ACT,
        RuntimeError("The model is on strike."),
        RuntimeError("The model is on strike."),
        RuntimeError("The model is on strike."),
    )


def two() -> Crew:
    first = crew()
    writer = Agent(
        role="Writer",
        goal="Write",
        backstory="x",
        llm=Scripted(f"Thought: I know\nFinal Answer: {ANSWER}"),
    )
    first.agents.append(writer)
    first.tasks[0].agent.llm._turns[1] = "Thought: I know\nFinal Answer: Two vendors work there."
    first.tasks.append(Task(description="Write", expected_output="text", agent=writer))
    return first


def returned(give: Any, make: Any = crew) -> Any:
    def invoke(payload: dict[str, Any]) -> Any:
        return give(make().kickoff(inputs={"prompt": payload["prompt"]}))

    return invoke


def streamed(give: Any = lambda it: it) -> Any:
    def invoke(payload: dict[str, Any]) -> Iterator[Any]:
        made = crew()
        made.stream = True
        output = made.kickoff(inputs={"prompt": payload["prompt"]})
        for chunk in output:
            yield give(chunk)
        yield output.result

    return invoke


class Finding(Flow):
    @start()
    def read(self) -> str:
        return "Charlotte"

    @listen(read)
    def answer(self, city: str) -> str:
        return ANSWER


async def flow(payload: dict[str, Any]) -> Any:
    return await Finding().kickoff_async()


AGENTS = {
    "return output": returned(lambda it: it),
    "return output.raw": returned(lambda it: it.raw),
    "return str(output)": returned(str),
    'return {"result": output.raw}': returned(lambda it: {"result": it.raw}),
    "return output.to_dict()": returned(lambda it: it.to_dict(), structured("output_json")),
    "return output, output_json": returned(lambda it: it, structured("output_json")),
    "return output, output_pydantic": returned(lambda it: it, structured("output_pydantic")),
    "return output.pydantic": returned(lambda it: it.pydantic, structured("output_pydantic")),
    "return output, two agents": returned(lambda it: it, two),
    "return output, failing": returned(lambda it: it, failing),
    "return flow": flow,
    "stream chunks": streamed(),
    "stream chunk.content": streamed(lambda it: it.content),
}
