"""What Strands can do, and the ways in which people hand it out: ``<agent>: <way>``."""

import json
from collections.abc import AsyncIterator, Callable
from typing import Any

from common import ANSWER, FIND, SEARCHING, STRIKE, each, returned, same
from pydantic import BaseModel
from strands import Agent, ModelRetryStrategy, ToolContext, tool
from strands.hooks import BeforeToolCallEvent
from strands.multiagent import GraphBuilder, Swarm
from strands.types.exceptions import ModelThrottledException

from tests.agents.model import Call, ScriptedModel, Turn

VENDORS = [{"id": "v1", "name": "Green Fern", "email": "green-fern@example.com"}]
FOUND = {"response": "Green Fern asks $240.", "vendors": VENDORS}
OBJECT = FOUND | {
    "quotes": [{"vendor_id": "v1", "amount": 240}],
    "emails": [{"recipient": "green-fern@example.com", "subject": "A lawn in Charlotte"}],
}
FINDS = Call(*FIND)
THOUGHT = [
    {"reasoningContent": {"text": "The user is stingy."}},
    {"reasoningContent": {"signature": "c2lnbmVk"}},
]
PLACE = {"documentChar": {"documentIndex": 0, "start": 1, "end": 2}}
CITED = [
    {"text": "Green Fern has 4.8 stars."},
    {"citation": {"title": "Reviews", "location": PLACE, "sourceContent": []}},
]


class Vendor(BaseModel):
    """One business."""

    id: str
    name: str
    email: str


class Found(BaseModel):
    """What the agent found."""

    response: str
    vendors: list[Vendor]


class Rating(BaseModel):
    """A structured output that has none of the backend's fields."""

    stars: int
    reason: str


class Unprintable:
    """What no JSON can hold."""


# --- tools ----------------------------------------------------------------------------------------


@tool
async def find_vendors(city: str) -> str:
    """Finds vendors in a city."""
    return f"Green Fern and Dogwood Care work in {city}."


@tool
async def send_email(recipient: str) -> str:
    """Sends an e-mail."""
    return f"Sent to {recipient}."


@tool
async def broken_tool(city: str) -> str:
    """Fails."""
    raise ValueError(f"no such table: vendors_{city}")


@tool
async def slow_search(city: str) -> AsyncIterator[Any]:
    """Searches and says how far it is."""
    yield "Asked the first directory"
    yield {"message": "Asked the second directory"}
    yield {"data": "Asked the third directory"}
    yield {"done": 3, "of": 4}
    yield {"client": Unprintable(), "text": "an object"}
    yield Unprintable()
    yield f"Found two vendors in {city}."


@tool
async def ask_expert(question: str) -> AsyncIterator[Any]:
    """Asks another agent and hands on all that it does."""
    async for event in agent(FINDS, "Ask for the slope, it matters.", name="e").stream_async("?"):
        yield event


@tool(context=True)
async def book(tool_context: ToolContext, vendor: str) -> str:
    """Books a vendor, if a person agrees."""
    return str(tool_context.interrupt("approval", reason=f"May I book {vendor} for $240?"))


def ask_before(event: BeforeToolCallEvent) -> None:
    """A hook that asks before every e-mail, with details."""
    event.interrupt("email", reason={"question": "Send it?", "to": event.tool_use["input"]})


def refuse(event: BeforeToolCallEvent) -> None:
    """A hook that lets no tool run."""
    event.cancel_tool = "not today"


TOOLS: Any = (find_vendors, send_email, broken_tool, slow_search, ask_expert, book)


def agent(*turns: Turn, name: str = "t", **options: Any) -> Agent:
    """An agent that says these turns, with the tools that it calls in them."""
    calls = [block for turn in turns if isinstance(turn, list) for block in turn]
    names = {block.name for block in [*turns, *calls] if isinstance(block, Call)}
    tools = [one for one in TOOLS if one.tool_name in names]
    options = {"tools": tools, "agent_id": name, "name": name} | options
    return Agent(model=ScriptedModel(*turns, name=name), callback_handler=None, **options)


# --- agents ---------------------------------------------------------------------------------------


def using(name: str, **argument: Any) -> Callable[[], Agent]:
    """Uses a tool, and answers."""
    return lambda: agent([SEARCHING, Call(name, argument)], ANSWER)


def with_tools() -> Agent:
    """Writes, uses a tool, writes, uses the same tool twice at once, and answers."""
    mail = [Call("send_email", {"recipient": name}) for name in ("green-fern", "dogwood")]
    return agent([SEARCHING, FINDS], ["I'll write to both.", *mail], ANSWER)


def with_agent_as_tool() -> Agent:
    """Uses an agent as a tool, in Strands' own way."""
    gardener = agent(FINDS, "Ask for the slope, it matters.", name="gardener")
    tools = [gardener.as_tool(description="Knows gardens")]
    return agent([SEARCHING, Call("gardener", {"input": "What to ask?"})], ANSWER, tools=tools)


def swarm() -> Swarm:
    """One agent hands the task to another."""
    handoff = Call("handoff_to_agent", {"agent_name": "writer", "message": "Write to both"})
    finder = agent([SEARCHING, FINDS], [handoff], "Handed over.", name="finder")
    writer = agent([Call("send_email", {"recipient": "green-fern"})], ANSWER, name="writer")
    return Swarm([finder, writer], id="swarm")


def graph_of(last: Agent, **nodes: Any) -> Any:
    """Nodes side by side, then one that puts together what they say."""
    builder = GraphBuilder()
    builder.set_graph_id("graph").set_max_node_executions(9)
    for name, node in [*nodes.items(), ("writer", last)]:
        builder.add_node(node, name)
    for name in nodes:
        builder.add_edge(name, "writer")
    return builder.build()


def graph(*last: Turn) -> Any:
    north = agent(["Looking in the north.", FINDS], "Green Fern is in the north.", name="north")
    south = agent("Dogwood Care is in the south.", name="south")
    turns = last or ([Call("send_email", {"recipient": "both"})], ANSWER)
    return graph_of(agent(*turns, name="writer"), north=north, south=south)


def structured(
    *turns: Turn, model: type[BaseModel] = Found, value: dict[str, Any] = FOUND
) -> Agent:
    """Gives a structured output at the end."""
    turns = turns or ([SEARCHING, FINDS],)
    return agent(*turns, [Call(model.__name__, value)], structured_output_model=model)


BY_NAME: dict[str, Callable[[], Any]] = {
    "one turn": lambda: agent(ANSWER),
    "tools": with_tools,
    "structured": structured,
    "structured at the second try": lambda: structured(
        [SEARCHING, FINDS], "All is found.", [Call("Found", {"response": "half"})]
    ),
    "structured in other fields": lambda: structured(
        model=Rating, value={"stars": 5, "reason": "Quick."}
    ),
    "tool that streams": using("slow_search", city="Charlotte"),
    "two tools that stream at once": lambda: agent(
        [SEARCHING, *[Call("slow_search", {"city": city}) for city in ("Austin", "Dallas")]], ANSWER
    ),
    "agent as a tool": with_agent_as_tool,
    "agent inside a tool, streamed": using("ask_expert", question="What to ask?"),
    "tool that fails": using("broken_tool", city="x"),
    "tool that does not exist": using("no_such_tool"),
    "tool that is refused": lambda: agent([SEARCHING, FINDS], ANSWER, hooks=[refuse]),
    "swarm": swarm,
    "graph": graph,
    "graph that fails": lambda: graph(RuntimeError("The mail server is away.")),
    "graph with a swarm": lambda: graph_of(
        agent("Both can come on Friday.", name="writer"), team=swarm()
    ),
    "interrupt in a tool": using("book", vendor="Green Fern"),
    "interrupt in a hook": lambda: agent(
        [SEARCHING, Call("send_email", {"recipient": "green-fern"})], hooks=[ask_before]
    ),
    "exception": lambda: agent([SEARCHING, FINDS], STRIKE),
    "exception without text": lambda: agent([SEARCHING, FINDS], TimeoutError()),
    "exception in mid-sentence": lambda: agent(["I wrote to Green", AssertionError()]),
    "too many tokens": lambda: agent(["I wrote to Green", {"stopReason": "max_tokens"}]),
    "guardrail": lambda: agent(
        ["I cannot help with that.", {"stopReason": "guardrail_intervened"}]
    ),
    "throttled once": lambda: agent(
        ModelThrottledException("slow down"),
        ANSWER,
        retry_strategy=ModelRetryStrategy(initial_delay=0, max_delay=0),
    ),
    "thoughts": lambda: agent([THOUGHT, SEARCHING, FINDS], ANSWER),
    "citations": lambda: agent([CITED]),
    "blank answer": lambda: agent([SEARCHING, FINDS], " \n"),
    "no text at all": lambda: agent([FINDS], []),
    "JSON as text": lambda: agent([SEARCHING, FINDS], json.dumps(OBJECT)),
    "JSON in a code block": lambda: agent(f"```json\n{json.dumps(OBJECT, indent=2)}\n```"),
    "text and JSON in a code block": lambda: agent(
        f"Here is what I found:\n\n```json\n{json.dumps(OBJECT)}\n```"
    ),
    "odd text": lambda: agent("{'Greenline': 250} is « cheap »\u2028\n<b>👩‍🌾</b> data: \\n"),
}

# --- ways -----------------------------------------------------------------------------------------


def yielded(run: Callable[[str], Any], give: Callable[[Any], Any]) -> Any:
    """An entrypoint that yields what is given of the result, as the only thing."""

    async def invoke(payload: dict[str, Any]) -> AsyncIterator[Any]:
        yield give(await run(payload["prompt"]))

    return invoke


async def chosen(payload: dict[str, Any]) -> AsyncIterator[Any]:
    """As careful authors do it: lines for the timeline, then the answer."""
    yield {"message": "Reading the task"}
    async for event in with_tools().stream_async(payload["prompt"]):
        for block in event.get("message", {}).get("content", ()):
            if "toolUse" in block:
                yield {"message": f"Calling {block['toolUse']['name']}"}
        if "result" in event:
            yield {"response": str(event["result"])}


def of(key: str) -> Callable[[dict[str, Any]], Any]:
    """What an event has under a key."""
    return lambda event: event.get(key)


def with_key(key: str) -> Callable[[dict[str, Any]], Any]:
    """An event's one key and what is under it."""
    return lambda event: {key: event[key]} if key in event else None


Ways = dict[str, Callable[[Any], Any]]
STREAMED: Ways = {
    "event": same,
    "json.dumps(event, default=str)": lambda event: json.dumps(event, default=str),
    "str(event)": str,
}
DATA: Ways = {'event["data"]': of("data")}
KEYS: Ways = {f'event["{key}"]': of(key) for key in ("data", "event", "message", "result")} | {
    f'{{"{key}": event["{key}"]}}': with_key(key) for key in ("data", "event", "message", "result")
}
RESULT: Ways = {"result": same}
TEXT: Ways = {"str(result)": str}
OF_MANY: Ways = RESULT | TEXT | {"result.to_dict()": lambda result: result.to_dict()}
RESULTS: Ways = OF_MANY | {
    "result.message": lambda result: result.message,
    '{"result": result}': lambda result: {"result": result},
    '{"result": result.message}': lambda result: {"result": result.message},
    '{"response": str(result)}': lambda result: {"response": str(result)},
    "json.dumps(result.message)": lambda result: json.dumps(result.message),
    'json.dumps({"response": str(result)})': lambda result: json.dumps({"response": str(result)}),
    'result.message["content"]': lambda result: result.message["content"],
    'result.message["content"][0]["text"]': lambda result: result.message["content"][0]["text"],
}
STRUCTURED: Ways = (
    RESULT
    | TEXT
    | {
        "result.structured_output": lambda result: result.structured_output,
        "….model_dump()": lambda result: result.structured_output.model_dump(),
        "….model_dump_json()": lambda result: result.structured_output.model_dump_json(),
        '{"structured_output": …}': lambda result: {"structured_output": result.structured_output},
    }
)
# What of each event is yielded besides STREAMED, what of the result is returned or yielded, and
# what is only returned.
WAYS: dict[str, tuple[Ways, Ways, Ways]] = {
    "tools": (KEYS, RESULTS, {}),
    "structured": ({}, STRUCTURED, {}),
    "swarm": ({}, OF_MANY, {}),
    "graph": ({}, OF_MANY, {}),
    "interrupt in a tool": ({}, OF_MANY, {}),
    "exception": ({}, RESULT, {}),
    "exception in mid-sentence": (DATA, {}, {}),
    "JSON as text": (DATA, RESULTS, {}),
    "JSON in a code block": (DATA, {}, TEXT),
    "odd text": (DATA, {}, TEXT),
}


def in_all_ways(make: Callable[[], Any], ways: tuple[Ways, Ways, Ways]) -> dict[str, Any]:
    """An agent's entrypoints, by their ways."""

    def streamed(prompt: str) -> Any:
        return make().stream_async(prompt)

    def run(prompt: str) -> Any:
        return make().invoke_async(prompt)

    of_event, of_result, of_return = ways
    return (
        {f"yield {way}": each(streamed, give) for way, give in (STREAMED | of_event).items()}
        | {f"return {way}": returned(run, give) for way, give in (of_result | of_return).items()}
        | {f"yield {way}": yielded(run, give) for way, give in of_result.items()}
    )


AGENTS = {
    f"{name}: {way}": entrypoint
    for name, make in BY_NAME.items()
    for way, entrypoint in in_all_ways(make, WAYS.get(name, ({}, {}, {}))).items()
} | {"tools: yield chosen things": chosen}
