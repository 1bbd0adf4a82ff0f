"""The agents of the table: what Strands can do, and the ways in which people hand it out.

Each is an entrypoint of a BedrockAgentCoreApp. ``AGENTS`` has them by name: ``<agent>, <way>``.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

from pydantic import BaseModel
from strands import Agent, ModelRetryStrategy, ToolContext, tool
from strands.hooks import BeforeToolCallEvent
from strands.multiagent import GraphBuilder, Swarm
from strands.types.exceptions import ModelThrottledException

from tests.agents.model import Call, Cited, ScriptedModel, Stop, Thought, Turn

PAUSE_SECONDS = 0.001  # see record.py
Entrypoint = Callable[[dict[str, Any]], Any]

SEARCHING = "Let me look for landscapers."
ANSWER = "I've e-mailed Green Fern and Dogwood Care. Both can come on Friday."
OBJECT = {
    "response": "Green Fern asks $240.",
    "vendors": [{"id": "v1", "name": "Green Fern", "email": "green-fern@example.com"}],
    "quotes": [{"vendor_id": "v1", "amount": 240}],
    "emails": [{"recipient": "green-fern@example.com", "subject": "A lawn in Charlotte"}],
}
FIND = Call("find_vendors", {"city": "Charlotte"})


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


FOUND = {"response": OBJECT["response"], "vendors": OBJECT["vendors"]}

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
    async for event in agent(FIND, "Ask for the slope, it matters.", name="e").stream_async("?"):
        yield event


@tool
async def ask_quietly(question: str) -> str:
    """Asks another agent and hands on what it says."""
    return str(await agent("Ask for the slope, it matters.", name="q").invoke_async(question))


@tool(context=True)
async def book(tool_context: ToolContext, vendor: str) -> str:
    """Books a vendor, if a person agrees."""
    return str(tool_context.interrupt("approval", reason=f"May I book {vendor} for $240?"))


@tool(context=True)
async def finish(tool_context: ToolContext, text: str) -> str:
    """Ends the agent's loop at once."""
    tool_context.invocation_state["request_state"]["stop_event_loop"] = True
    return text


def ask_before(event: BeforeToolCallEvent) -> None:
    """A hook that asks before every e-mail, with details."""
    event.interrupt("email", reason={"question": "Send it?", "to": event.tool_use["input"]})


def refuse(event: BeforeToolCallEvent) -> None:
    """A hook that lets no tool run."""
    event.cancel_tool = "not today"


TOOLS: list[Any] = [
    find_vendors,
    send_email,
    broken_tool,
    slow_search,
    ask_expert,
    ask_quietly,
    book,
    finish,
]


def agent(*turns: Turn, name: str = "t", **options: Any) -> Agent:
    """An agent that says these turns, with the tools that it calls in them."""
    calls = [block for turn in turns if isinstance(turn, list) for block in turn]
    names = {block.name for block in [*turns, *calls] if isinstance(block, Call)}
    tools = [one for one in TOOLS if one.tool_name in names]
    options = {"tools": tools, "agent_id": name, "name": name} | options
    return Agent(model=ScriptedModel(*turns, name=name), callback_handler=None, **options)


# --- agents ---------------------------------------------------------------------------------------


def with_tools() -> Agent:
    """Writes, uses a tool, writes, uses the same tool twice at once, and answers."""
    mail = [Call("send_email", {"recipient": name}) for name in ("green-fern", "dogwood")]
    return agent([SEARCHING, FIND], ["I'll write to both.", *mail], ANSWER)


def with_agent_as_tool() -> Agent:
    """Uses an agent as a tool, in Strands' own way."""
    gardener = agent(FIND, "Ask for the slope, it matters.", name="gardener")
    tools = [gardener.as_tool(description="Knows gardens")]
    return agent([SEARCHING, Call("gardener", {"input": "What to ask?"})], ANSWER, tools=tools)


def swarm() -> Swarm:
    """One agent hands the task to another."""
    handoff = Call("handoff_to_agent", {"agent_name": "writer", "message": "Write to both"})
    finder = agent([SEARCHING, FIND], [handoff], "Handed over.", name="finder")
    writer = agent([Call("send_email", {"recipient": "green-fern"})], ANSWER, name="writer")
    return Swarm([finder, writer], id="swarm")


def interrupted_swarm() -> Swarm:
    """An agent of a swarm asks a person."""
    finder = agent([SEARCHING, Call("book", {"vendor": "Green Fern"})], ANSWER, name="finder")
    return Swarm([finder], id="swarm")


def graph(*last: Turn) -> Any:
    """Two agents side by side, then one that puts together what they say."""
    builder = GraphBuilder()
    builder.set_graph_id("graph").set_max_node_executions(9)
    north = agent(["Looking in the north.", FIND], "Green Fern is in the north.", name="north")
    south = agent("Dogwood Care is in the south.", name="south")
    writer = agent(*(last or ([Call("send_email", {"recipient": "both"})], ANSWER)), name="writer")
    for node in (north, south, writer):
        builder.add_node(node, node.name)
    builder.add_edge("north", "writer")
    builder.add_edge("south", "writer")
    return builder.build()


def graph_with_swarm() -> Any:
    """A swarm as a node of a graph."""
    builder = GraphBuilder()
    builder.set_graph_id("graph").set_max_node_executions(9)
    builder.add_node(swarm(), "team")
    builder.add_node(agent("Both can come on Friday.", name="writer"), "writer")
    builder.add_edge("team", "writer")
    return builder.build()


def structured(model: type[BaseModel] = Found, value: Any = None, *turns: Turn) -> Agent:
    """Gives a structured output at the end."""
    call = Call(model.__name__, value or FOUND)
    return agent(*(turns or ([SEARCHING, FIND],)), [call], structured_output_model=model)


BY_NAME: dict[str, Callable[[], Any]] = {
    "one turn": lambda: agent(ANSWER),
    "tools": with_tools,
    "structured": structured,
    "structured at the second try": lambda: structured(
        Found, None, [SEARCHING, FIND], "All is found.", [Call("Found", {"response": "half"})]
    ),
    "structured in other fields": lambda: structured(Rating, {"stars": 5, "reason": "Quick."}),
    "tool that streams": lambda: agent(
        [SEARCHING, Call("slow_search", {"city": "Charlotte"})], ANSWER
    ),
    "two tools that stream at once": lambda: agent(
        [SEARCHING, *[Call("slow_search", {"city": city}) for city in ("Austin", "Dallas")]], ANSWER
    ),
    "agent as a tool": with_agent_as_tool,
    "agent inside a tool, streamed": lambda: agent(
        [SEARCHING, Call("ask_expert", {"question": "What to ask?"})], ANSWER
    ),
    "agent inside a tool, asked": lambda: agent(
        [SEARCHING, Call("ask_quietly", {"question": "What to ask?"})], ANSWER
    ),
    "tool that fails": lambda: agent([SEARCHING, Call("broken_tool", {"city": "x"})], ANSWER),
    "tool that does not exist": lambda: agent([SEARCHING, Call("no_such_tool", {})], ANSWER),
    "tool that is refused": lambda: agent([SEARCHING, FIND], ANSWER, hooks=[refuse]),
    "tool that ends the loop": lambda: agent([ANSWER, Call("finish", {"text": "done"})]),
    "swarm": swarm,
    "graph": graph,
    "graph that fails": lambda: graph(RuntimeError("The mail server is away.")),
    "graph with a swarm": graph_with_swarm,
    "interrupt in a tool": lambda: agent([SEARCHING, Call("book", {"vendor": "Green Fern"})]),
    "interrupt in a hook": lambda: agent(
        [SEARCHING, Call("send_email", {"recipient": "green-fern"})], hooks=[ask_before]
    ),
    "interrupt in a swarm": interrupted_swarm,
    "exception": lambda: agent([SEARCHING, FIND], RuntimeError("The model is on strike.")),
    "exception without text": lambda: agent([SEARCHING, FIND], TimeoutError()),
    "exception in mid-sentence": lambda: agent(["I wrote to Green", AssertionError()]),
    "too many tokens": lambda: agent(["I wrote to Green", Stop("max_tokens")]),
    "guardrail": lambda: agent(["I cannot help with that.", Stop("guardrail_intervened")]),
    "throttled once": lambda: agent(
        ModelThrottledException("slow down"),
        ANSWER,
        retry_strategy=ModelRetryStrategy(initial_delay=0, max_delay=0),
    ),
    "thoughts": lambda: agent([Thought("The user is stingy."), SEARCHING, FIND], ANSWER),
    "citations": lambda: agent([Cited("Green Fern has 4.8 stars.", "Reviews")]),
    "blank answer": lambda: agent([SEARCHING, FIND], " \n"),
    "no text at all": lambda: agent([FIND], []),
    "JSON as text": lambda: agent([SEARCHING, FIND], json.dumps(OBJECT)),
    "JSON in a code block": lambda: agent(f"```json\n{json.dumps(OBJECT, indent=2)}\n```"),
    "text and JSON in a code block": lambda: agent(
        f"Here is what I found:\n\n```json\n{json.dumps(OBJECT)}\n```"
    ),
    "odd text": lambda: agent("{'Greenline': 250} is « cheap »\u2028\n<b>👩‍🌾</b> data: \\n"),
}

# --- ways -----------------------------------------------------------------------------------------


def each(give: Callable[[dict[str, Any]], Any]) -> Callable[[Callable[[], Any]], Entrypoint]:
    """Yields what is given of each event; None is not yielded."""

    def way(make: Callable[[], Any]) -> Entrypoint:
        async def invoke(payload: dict[str, Any]) -> AsyncIterator[Any]:
            async for event in make().stream_async(payload["prompt"]):
                if (given := give(event)) is not None:
                    yield given
                    await asyncio.sleep(PAUSE_SECONDS)

        return invoke

    return way


def returned(give: Callable[[Any], Any]) -> Callable[[Callable[[], Any]], Entrypoint]:
    """Returns what is given of the result."""

    def way(make: Callable[[], Any]) -> Entrypoint:
        async def invoke(payload: dict[str, Any]) -> Any:
            return give(await make().invoke_async(payload["prompt"]))

        return invoke

    return way


def yielded(give: Callable[[Any], Any]) -> Callable[[Callable[[], Any]], Entrypoint]:
    """Yields what is given of the result, as the only thing."""

    def way(make: Callable[[], Any]) -> Entrypoint:
        async def invoke(payload: dict[str, Any]) -> AsyncIterator[Any]:
            yield give(await make().invoke_async(payload["prompt"]))

        return invoke

    return way


def chosen(make: Callable[[], Any]) -> Entrypoint:
    """As careful authors do it: lines for the timeline, then the answer."""

    async def invoke(payload: dict[str, Any]) -> AsyncIterator[Any]:
        yield {"message": "Reading the task"}
        async for event in make().stream_async(payload["prompt"]):
            if "message" in event:
                for block in event["message"]["content"]:
                    if "toolUse" in block:
                        yield {"message": f"Calling {block['toolUse']['name']}"}
            if "result" in event:
                yield {"response": str(event["result"])}

    return invoke


def of(key: str) -> Callable[[dict[str, Any]], Any]:
    """What an event has under a key."""
    return lambda event: event.get(key)


def with_key(key: str) -> Callable[[dict[str, Any]], Any]:
    """An event's one key and what is under it."""
    return lambda event: {key: event[key]} if key in event else None


STREAMED = {
    "yield event": each(lambda event: event),
    "yield json.dumps(event, default=str)": each(lambda event: json.dumps(event, default=str)),
    "yield str(event)": each(str),
}
EVENTS = STREAMED | {
    'yield event["data"]': each(of("data")),
    'yield {"data": event["data"]}': each(with_key("data")),
    'yield event["event"]': each(of("event")),
    'yield {"event": event["event"]}': each(with_key("event")),
    'yield event["message"]': each(of("message")),
    'yield {"message": event["message"]}': each(with_key("message")),
    'yield event["result"]': each(of("result")),
    'yield {"result": event["result"]}': each(with_key("result")),
    "yield chosen things": chosen,
}
RESULTS: dict[str, Callable[[Any], Any]] = {
    "result": lambda result: result,
    "result.message": lambda result: result.message,
    "str(result)": str,
    '{"result": result}': lambda result: {"result": result},
    '{"result": result.message}': lambda result: {"result": result.message},
    '{"response": str(result)}': lambda result: {"response": str(result)},
    "json.dumps(result.message)": lambda result: json.dumps(result.message),
    'json.dumps({"response": str(result)})': lambda result: json.dumps({"response": str(result)}),
    "result.to_dict()": lambda result: result.to_dict(),
    'result.message["content"]': lambda result: result.message["content"],
    'result.message["content"][0]["text"]': lambda result: result.message["content"][0]["text"],
}
STRUCTURED: dict[str, Callable[[Any], Any]] = {
    "result": lambda result: result,
    "str(result)": str,
    "result.structured_output": lambda result: result.structured_output,
    "….model_dump()": lambda result: result.structured_output.model_dump(),
    "….model_dump_json()": lambda result: result.structured_output.model_dump_json(),
    '{"structured_output": …}': lambda result: {"structured_output": result.structured_output},
}
OF_MANY: dict[str, Callable[[Any], Any]] = {
    "result": lambda result: result,
    "str(result)": str,
    "result.to_dict()": lambda result: result.to_dict(),
}


def _both(gives: dict[str, Callable[[Any], Any]]) -> dict[str, Any]:
    return {f"return {what}": returned(give) for what, give in gives.items()} | {
        f"yield {what}": yielded(give) for what, give in gives.items()
    }


WAYS: dict[str, dict[str, Any]] = dict.fromkeys(BY_NAME, STREAMED) | {
    "tools": EVENTS | _both(RESULTS),
    "structured": STREAMED | _both(STRUCTURED),
    "swarm": STREAMED | _both(OF_MANY),
    "graph": STREAMED | _both(OF_MANY),
    "interrupt in a tool": STREAMED | _both(OF_MANY),
    "exception": STREAMED | _both({"result": lambda result: result}),
    "JSON as text": STREAMED | {'yield event["data"]': each(of("data")), **_both(RESULTS)},
    "JSON in a code block": STREAMED
    | {'yield event["data"]': each(of("data")), "return str(result)": returned(str)},
    "odd text": STREAMED
    | {'yield event["data"]': each(of("data")), "return str(result)": returned(str)},
    "exception in mid-sentence": STREAMED | {'yield event["data"]': each(of("data"))},
}

AGENTS: dict[str, Entrypoint] = {
    f"{name}: {way}": wrap(BY_NAME[name])
    for name, ways in WAYS.items()
    for way, wrap in ways.items()
}
