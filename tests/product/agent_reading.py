"""How tests read what an agent says: bytes in, an answer and the timeline out."""

import json
from typing import Any

from hypothesis import settings

from tests.product.agent_server import STREAM, line
from valro.agent.answers import Answer
from valro.agent.reader import AgentReader

MAYBE = "The agent may already have contacted vendors."
UNHURRIED = settings(deadline=None)  # other work on the machine must not fail a property


def read_stream(*pieces: bytes) -> tuple[Answer, list[str]]:
    said: list[str] = []
    stream = AgentReader(STREAM, said.append)
    for piece in pieces:
        stream.feed(piece)
    return stream.finish(), said


def read_frames(*frames: Any) -> tuple[Answer, list[str]]:
    return read_stream(*map(line, frames))


def read_whole(body: bytes, *, is_text: bool = False) -> Answer:
    whole = AgentReader("text/plain" if is_text else "application/json", lambda _: None)
    whole.feed(body)
    return whole.finish()


def read_json(value: Any) -> Answer:
    return read_whole(json.dumps(value).encode())


STRANDS_FRAMES: list[Any] = [
    {"init_event_loop": True},
    {"start": True},
    {"start_event_loop": True},
    {"event": {"messageStart": {"role": "assistant"}}},
    {"event": {"contentBlockDelta": {"delta": {"text": "Let me "}, "contentBlockIndex": 0}}},
    "{'data': 'Let me ', 'agent': <strands.agent.agent.Agent object at 0x7fa1>, 'id': UUID('5f')}",
    {"event": {"contentBlockDelta": {"delta": {"text": "look."}}}},
    {
        "event": {
            "contentBlockStart": {"start": {"toolUse": {"name": "getVendors", "toolUseId": "t1"}}}
        }
    },
    {"event": {"contentBlockDelta": {"delta": {"toolUse": {"input": '{"city": "Charl'}}}}},
    {"event": {"contentBlockStop": {}}},
    {"event": {"messageStop": {"stopReason": "tool_use"}}},
    {
        "message": {
            "role": "assistant",
            "content": [
                {"text": "Let me look."},
                {"toolUse": {"toolUseId": "t1", "name": "getVendors", "input": {}}},
            ],
        }
    },
    {
        "message": {
            "role": "user",
            "content": [{"toolResult": {"toolUseId": "t1", "content": [{"text": "secret"}]}}],
        }
    },
    {"message": {"role": "assistant", "content": [{"toolUse": {"name": "sendEmail"}}]}},
    {"message": {"role": "assistant", "content": []}},
    {"event": {"metadata": {"usage": {"inputTokens": 5}}}},
    {"event": {"contentBlockDelta": {"delta": {"text": "I e-mailed "}}}},
    {"event": {"contentBlockDelta": {"delta": {"text": "Ann."}}}},
    {"message": {"role": "assistant", "content": [{"text": "I e-mailed "}, {"text": "Ann."}]}},
    "{'result': AgentResult(stop_reason='end_turn', message={'role': 'assistant'}, state={})}",
]
