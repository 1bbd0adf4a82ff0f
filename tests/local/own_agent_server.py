"""An agent of one's own: a server on the bedrock-agentcore SDK, in a process that can die."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from typing import Any

from bedrock_agentcore import BedrockAgentCoreApp, RequestContext
from starlette.responses import StreamingResponse

app = BedrockAgentCoreApp()


@app.entrypoint
async def invoke(payload: dict[str, Any], context: RequestContext) -> Any:
    if "runId" in payload:
        result = {"response": f"{payload['messages'][-1]['content']} in AG-UI"}
        return stream_events({"type": "RUN_STARTED"}, {"type": "RUN_FINISHED", "result": result})
    prompt = payload["prompt"]
    if prompt == "die":
        os._exit(1)
    if prompt == "fail":
        raise ValueError(prompt)
    if prompt == "json":
        headers = dict(context.request.headers) if context.request else {}
        return {"response": payload["task_id"], "session": context.session_id, "headers": headers}
    if prompt == "wait":
        # The SDK's own stream would not notice for long that nobody listens any more.
        return StreamingResponse(wait(), media_type="text/event-stream")
    return stream(prompt)


async def stream(prompt: str) -> AsyncIterator[Any]:
    yield {"message": "Looking around"}
    if prompt == "die midway":
        os._exit(1)
    yield {"response": "Found one."}


async def stream_events(*events: dict[str, Any]) -> AsyncIterator[Any]:
    for event in events:
        yield event


async def wait() -> AsyncIterator[bytes]:
    yield b'data: {"message": "Looking around"}\n\n'
    try:
        await asyncio.sleep(600)
    finally:
        print("The stream is closed.", flush=True)


if __name__ == "__main__":
    app.run(port=int(sys.argv[1]), host="127.0.0.1", log_level="warning")
