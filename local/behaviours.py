"""The words in a prompt that make the sample agent, or its runtime, go wrong.

"Find me a painter in Austin [agent: cut]" makes it close the connection in the middle of an event.
Only the words are here, so that they can be listed where nothing is installed; faults.py and
runtime.py do what they say.
"""

import re

BEHAVIOURS = {
    "fail": "raises before anything is done",
    "fail-midway": "raises in the middle of its stream",
    "fail-wordless": "raises in the middle of its stream, without saying why",
    "error": 'answers {"error": "…"}',
    "stall SECONDS": "says nothing for that long (300), unless its session is stopped",
    "drip SECONDS": "keeps talking for that long (300), unless its session is stopped",
    "silent SECONDS": "does not even begin to answer for that long (300)",
    "graceful SECONDS": "like drip, but ends its stream properly when its session is stopped",
    "unstoppable SECONDS": "like drip, but continues although its session was stopped",
    "cut": "closes the connection in the middle of an event",
    "json": "answers in plain JSON, not as a stream",
    "text": "answers in plain JSON with a bare string",
    "ask": "asks before it books the best vendor; answer it with a follow-up task",
    "pieces": "streams text only, without an answer object",
    "quiet": "streams the answer object only, without progress",
    "odd": "answers with floats, deep nesting, empty strings, emoji and U+2028",
    "huge BYTES": "answers with that much random text (1048576)",
    "invalid-json": "answers with JSON that ends too early",
    "invalid-utf8": "streams bytes that are not UTF-8",
    "empty": "answers with an empty body",
    "leak": "repeats everything it was given, including the token for its reports",
    "strands": "streams raw Strands events, as an agent that passes them on does",
    "report SECONDS": "accepts at once, keeps working for that long, and reports over HTTP",
    "report-fail SECONDS": "the same, but fails at the end",
    "report-die": "the same, but dies without notice after its first line",
    "accept": "accepts at once, and is never heard from again",
    "throttle TIMES": "is refused by the runtime with 429 that many times (1), then answers",
    "conflict TIMES": "is refused by the runtime with 409 that many times (1), then answers",
    "unavailable TIMES": "cannot be reached: the runtime answers 500 that many times (1), then the agent answers",
}
"""What may stand in a prompt as `[agent: …]`, and what happens then."""

REPORTING = {"report", "report-fail", "report-die", "accept"}
"""Which of them need a task that may be reported on; on others it answers as it usually does."""

REFUSALS = {
    "throttle": (429, "ThrottlingException"),
    "conflict": (409, "RetryableConflictException"),
    "unavailable": (500, "InternalServerException"),
}
"""Which of them are the runtime's, that refuses before the agent is reached: status, error code."""


def read_behaviour(prompt: str) -> tuple[str, float | None]:
    """Returns the behaviour that the prompt names, and its number; ("", None) for none."""
    found = re.search(r"\[agent: *([a-z0-9-]+) *([\d.]+)? *\]", prompt)
    return (found[1], float(found[2]) if found[2] else None) if found else ("", None)
