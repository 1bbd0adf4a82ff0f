"""The reporting way: an AgentCore agent that accepts at once, works for hours, and reports."""

import threading
import time
from typing import Any

from bedrock_agentcore import BedrockAgentCoreApp
from reporter import Reporter  # type: ignore[import-not-found]  # the file beside this one

PAUSE_SECONDS = 1.0  # in the place of a vendor's time to answer

app = BedrockAgentCoreApp()


@app.entrypoint
def invoke(payload: dict[str, Any]) -> dict[str, Any]:
    """Accepts a task, if its payload says where to report; does it at once if not."""
    if "report" not in payload:
        return find_quotes(payload["prompt"], print, time.sleep)
    reporter = Reporter(payload)  # the payload has no token any more
    busy = app.add_async_task("task")  # /ping says HealthyBusy until it is complete
    threading.Thread(target=work, args=(reporter, payload["prompt"], busy)).start()
    return {"accepted": True}


def work(reporter: Reporter, prompt: str, busy: int) -> None:
    """Does the task and reports; an exception is reported, and goes to the log."""
    try:
        with reporter as report:
            report.finish(find_quotes(prompt, report.say, report.stopped.wait))
    finally:
        app.complete_async_task(busy)


def find_quotes(prompt: str, say: Any, wait: Any) -> dict[str, Any]:
    """Asks each vendor for a price; in the place of your own model and tools."""
    vendors = [
        {"id": "v1", "name": "Second Coat", "email": "second-coat@example.com"},
        {"id": "v2", "name": "Lone Brush", "email": "lone-brush@example.com"},
    ]
    quotes = []
    say(f"Looking for: {prompt}")
    for vendor, amount in zip(vendors, (450, 390), strict=True):
        say(f"Asked {vendor['name']} for a price")
        wait(PAUSE_SECONDS)
        quotes.append({"vendor_id": vendor["id"], "amount": amount})
        say(f"{vendor['name']} asks ${amount}")
    return {"response": "Lone Brush asks $390.", "vendors": vendors, "quotes": quotes}


if __name__ == "__main__":
    app.run()
