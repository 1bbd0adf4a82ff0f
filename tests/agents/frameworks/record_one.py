"""Runs one framework's agents, in its own environment, and writes down what their servers send.

python record_one.py <framework> <folder>
"""

import importlib
import json
import logging
import sys
import warnings
from pathlib import Path
from typing import Any

from bedrock_agentcore import BedrockAgentCoreApp
from starlette.testclient import TestClient

HEADERS = {"Accept": "text/event-stream, application/json"}
PROMPT = "Find me a landscaper in Charlotte"
PAYLOAD = {"prompt": PROMPT, "task_id": "t-1"}
RUN_AGENT_INPUT = {
    "threadId": "t-1",
    "runId": "t-1",
    "protocolVersion": "1.0",
    "messages": [{"id": "t-1", "role": "user", "content": PROMPT}],
    "tools": [],
    "context": [],
    "state": {},
    "forwardedProps": {"task_id": "t-1"},
}


def record(agent: Any) -> bytes:
    """What a server sends; an entrypoint is served by the SDK's app."""
    is_server = hasattr(agent, "routes")
    app = agent if is_server else BedrockAgentCoreApp()
    if not is_server:
        app.entrypoint(agent)
    client = TestClient(app, raise_server_exceptions=False)
    asked: Any = RUN_AGENT_INPUT if is_server else PAYLOAD
    answer = client.post("/invocations", json=asked, headers=HEADERS)
    return f"{answer.status_code} {answer.headers['content-type']}\n\n".encode() + answer.content


def main() -> None:
    """Writes a file for each agent, by its number, and their names."""
    framework, folder = sys.argv[1], Path(sys.argv[2])
    logging.disable()
    warnings.simplefilter("ignore")
    sys.path.append(str(Path(__file__).parents[3]))  # for tests.agents.model
    agents = importlib.import_module(f"of_{framework}").AGENTS
    for number, agent in enumerate(agents.values()):
        (folder / f"{number}").write_bytes(record(agent))
    (folder / "names.json").write_text(json.dumps(list(agents)))


if __name__ == "__main__":
    main()
