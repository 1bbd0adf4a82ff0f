"""Runs the table's agents through the SDK's own server and records the bytes that it answers.

    python -m tests.agents.record            # records all of them anew, and what a person sees
    python -m tests.agents.record --check    # says which differ from what is recorded

What differs from run to run (addresses, random ids, times) is written the same each time.
"""

import asyncio
import logging
import os
import re
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection

import uvicorn
from bedrock_agentcore import BedrockAgentCoreApp
from starlette.applications import Starlette
from starlette.routing import Mount

from tests.agents.agents import AGENTS
from tests.agents.replay import FOLDER, TABLE, Recording, file_of, others, table

# The SDK writes an event on one thread while Strands, on another, goes on to change what is in it.
# So agents pause after each event, and one that differs under load is asked again.
TRIES = 5
PROMPT = b'{"prompt": "Find me a landscaper in Charlotte", "task_id": "t-1"}'

CHANGING = (
    (re.compile(rb"\b0x[0-9a-f]{6,}"), b"0x7f00"),
    (re.compile(rb"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b"), b"00000000-uuid"),
    (re.compile(rb"\b0x[0-9a-f]{16,32}\b|\b[0-9a-f]{32}\b"), b"0123abcd"),
    (re.compile(rb"\b\d{10}\.\d+"), b"1700000000.5"),  # time.time()
    (re.compile(rb"\b\d+\.\d{6,}(?:e-\d+)?\b|\b\d\.\d+e-\d\d\b"), b"0.25"),  # durations
    (re.compile(rb"(execution_time(?:=|\\?[\"']: ))\d+"), rb"\g<1>7"),
    (re.compile(rb"(latencyMs\\*[\"']: )\d+"), rb"\g<1>5"),
    (re.compile(rb", \\*[\"']timeToFirstByteMs\\*[\"']: \d+"), b""),
    (re.compile(rb"\b20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+\+00:00"), b"2026-01-01T00:00:00+00:00"),
)


def record(names: list[str]) -> Iterator[tuple[str, Recording]]:
    """Yields each agent's name and its answer, as the SDK's server sends it."""
    with serve(names) as port:
        for number, name in enumerate(names):
            connection = HTTPConnection("127.0.0.1", port, timeout=60)
            connection.request(
                "POST", f"/{number}/invocations", PROMPT, {"Content-Type": "application/json"}
            )
            answer = connection.getresponse()
            content_type = answer.getheader("Content-Type", "")
            yield name, Recording(answer.status, content_type, normal(answer.read()))
            connection.close()


def normal(body: bytes) -> bytes:
    """The same bytes at every run."""
    for pattern, constant in CHANGING:
        body = pattern.sub(constant, body)
    return body


@contextmanager
def serve(names: list[str]) -> Iterator[int]:
    """Serves each agent as an app of its own, under its number."""
    routes = []
    for number, name in enumerate(names):
        app = BedrockAgentCoreApp()
        app.entrypoint(AGENTS[name])
        app.logger.setLevel(logging.CRITICAL)
        routes.append(Mount(f"/{number}", app))
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(Starlette(routes=routes), log_level="error"))
    thread = threading.Thread(
        target=lambda: asyncio.run(server.serve(sockets=[listener])), daemon=True
    )
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


def write() -> None:
    """Writes the recordings, and the table of what a person sees."""
    FOLDER.mkdir(exist_ok=True)
    for file in FOLDER.glob("*.txt"):
        file.unlink()
    for name, recording in record(list(AGENTS)):
        file_of(name).write_bytes(recording.to_bytes())
    TABLE.write_text(table([*AGENTS, *others()]), encoding="utf-8")


def check() -> int:
    """Says which agents send something else than what is recorded, or are not recorded."""
    changed = list(AGENTS)
    for _ in range(TRIES):
        changed = [
            name
            for name, recording in record(changed)
            if not file_of(name).exists() or recording != Recording.read(name)
        ]
    files = {file_of(name) for name in AGENTS}
    changed += [f"not an agent: {file.name}" for file in FOLDER.glob("*.txt") if file not in files]
    for name in changed:
        print(name)
    print(f"{len(AGENTS)} agents, {len(changed)} differ from their recordings.")
    return 1 if changed else 0


def main() -> int:
    """Records, or compares."""
    logging.getLogger("strands").setLevel(logging.CRITICAL)
    if sys.argv[1:] == ["--check"]:
        return check()
    write()
    return 0


if __name__ == "__main__":
    if os.environ.get("PYTHONHASHSEED") != "0":  # the order of sets in reprs
        environment = os.environ | {"PYTHONHASHSEED": "0"}
        module = [sys.executable, "-m", "tests.agents.record", *sys.argv[1:]]
        os.execve(sys.executable, module, environment)  # noqa: S606  itself again
    sys.exit(main())
