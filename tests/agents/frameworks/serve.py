"""Runs one framework's agents, in its own environment, and writes down what the SDK's app sends.

python serve.py <module> <folder>
"""

import importlib
import logging
import re
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
sys.argv[0] = ""

from bedrock_agentcore import BedrockAgentCoreApp
from starlette.testclient import TestClient

RUN_AGENT_INPUT = {
    "threadId": "t-1",
    "runId": "t-1",
    "protocolVersion": "1.0",
    "messages": [{"id": "t-1", "role": "user", "content": "Find me a landscaper in Charlotte"}],
    "tools": [],
    "context": [],
    "state": {},
    "forwardedProps": {"task_id": "t-1"},
}
PAYLOAD = {"prompt": "Find me a landscaper in Charlotte", "task_id": "t-1"}
HEADERS = {"Accept": "text/event-stream, application/json"}


def record(agent: Any) -> bytes:
    if hasattr(agent, "routes"):
        app, asked = agent, RUN_AGENT_INPUT
    else:
        app, asked = BedrockAgentCoreApp(), PAYLOAD
        app.entrypoint(agent)
        app.logger.setLevel(logging.CRITICAL)
    answer = TestClient(app, raise_server_exceptions=False).post(
        "/invocations", json=asked, headers=HEADERS
    )
    return f"{answer.status_code} {answer.headers['content-type']}\n\n".encode() + answer.content


def main() -> None:
    name, folder = sys.argv[1], Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    only = sys.argv[3:]
    for agent, entrypoint in importlib.import_module(f"frameworks_{name}").AGENTS.items():
        file = re.sub(r"\W+", "_", f"{name} {agent}").strip("_") + ".txt"
        if only and only[0] not in agent:
            continue
        body = record(entrypoint)
        (folder / file).write_bytes(body)
        print(len(body), agent, flush=True)


main()
