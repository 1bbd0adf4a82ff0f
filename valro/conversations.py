"""How one task follows another: the answers, the history and the session that it continues with.

A task is one run of the agent, so a conversation is a chain of tasks. An agent that needs an answer
ends its run with ``interrupts``, AG-UI's word for what it stopped to ask:

    {"id": "…", "reason": "…", "message": "…", "response_schema": {…}}   all but ``id`` optional

    https://docs.ag-ui.com/concepts/interrupts

Not here: where a task is stored, and what is sent to the agent.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from valro.tasks import DELETED, Task, dumps, fit_answer

Interrupt = dict[str, Any]
Message = dict[str, Any]

# Beside the task's own largest answer and timeline, these still fit into DynamoDB's 400 KB.
MAX_HISTORY_BYTES = 50_000
MAX_RESUME_BYTES = 20_000
# What a JSON schema may say about text, or about anything. With another keyword, it may want more.
TEXT_SCHEMA_KEYS = frozenset(
    "type,enum,title,description,default,examples,format,pattern,minLength,maxLength".split(",")
)


class InvalidAnswers(ValueError):
    """Answers that the earlier task cannot use; the message is meant for whoever sent them."""


class AnswersRequired(ValueError):
    """The agent asked something that a description alone cannot answer."""

    def __init__(self, interrupts: list[Interrupt]) -> None:
        super().__init__("The agent asked several questions, or for something other than text")
        self.interrupts = interrupts


def follow_up(
    earlier: Task, unstarted: Task | None, description: str, answers: dict[str, Any] | None
) -> dict[str, Any]:
    """What a task has because it follows ``earlier``; raises InvalidAnswers or AnswersRequired.

    ``unstarted`` is the follower that it replaces.
    """
    kept = {
        "follows": earlier["id"],
        "thread_id": earlier.get("thread_id", earlier["id"]),
        "history": dumps(history_after(earlier)),
        "session": _open_session(earlier, unstarted),
        "resume": "",
    }
    if resume := resume_with(earlier.get("interrupts", []), description, answers):
        kept["resume"] = _stored(resume)
    return {name: value for name, value in kept.items() if value}


def history_after(task: Task) -> list[Message]:
    """The conversation up to the end of a task, as AG-UI messages; the oldest are cut first."""
    prompt = {"id": task["id"], "role": "user", "content": str(task.get("description"))}
    answer_id = task.get("message_id") or f"{task['id']}-answer"
    answer = {"id": answer_id, "role": "assistant", "content": ""}
    room = MAX_HISTORY_BYTES - len(dumps([prompt, answer]).encode())
    # If a task failed, the agent ought to know what may have happened.
    text = task.get("agent_response") or task.get("error_message") or ""
    answer["content"] = fit_answer({"agent_response": text}, room)[0]["agent_response"]
    history = [*task.get("history", []), prompt, answer]
    while len(dumps(history).encode()) > MAX_HISTORY_BYTES:
        del history[:2]
    return history


def resume_with(
    interrupts: list[Interrupt], description: str, answers: dict[str, Any] | None
) -> list[dict[str, Any]]:
    """The answers to everything that was asked, in AG-UI's form.

    Without ``answers``, the description answers a single question that wants text: a "yes" never
    approves what nobody saw.
    """
    ids = [interrupt["id"] for interrupt in interrupts]
    if answers is None:
        if len(ids) > 1 or not all(map(_wants_text, interrupts)):
            raise AnswersRequired(interrupts)
        answers = dict.fromkeys(ids, description)
    if unknown := sorted(answers.keys() - set(ids)):
        raise InvalidAnswers(
            f"'answers' has '{unknown[0][:100]}', which is not the id of any of the agent's questions"
        )
    return [
        {"interruptId": one, "status": "resolved", "payload": answers[one]}
        if one in answers
        else {"interruptId": one, "status": "cancelled"}
        for one in ids
    ]


def _wants_text(interrupt: Interrupt) -> bool:
    schema = interrupt.get("response_schema") or {}
    return (
        isinstance(schema, Mapping)
        and TEXT_SCHEMA_KEYS.issuperset(schema)
        and schema.get("type", "string") == "string"
        and all(isinstance(choice, str) for choice in schema.get("enum", ()))
    )


def _open_session(earlier: Task, unstarted: Task | None) -> str:
    """The task in whose session a follow-up runs; empty if a stop could ever hit that session.

    A follower that never started leaves its session as it was, unless it was to be stopped, or has
    been deleted, so that nobody can know.
    """
    if unstarted:
        is_open = unstarted["status"] != DELETED and "cancel_requested_at" not in unstarted
        return str(unstarted.get("session", "")) if is_open else ""
    return str(earlier.get("session", earlier["id"])) if earlier.get("session_open") else ""


def _stored(resume: list[dict[str, Any]]) -> str:
    try:
        text = json.dumps(resume, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        size = len(text.encode())
    except ValueError as error:  # half of a surrogate pair, or NaN, which Python reads
        raise InvalidAnswers("'answers' must be valid JSON text") from error
    if size > MAX_RESUME_BYTES:
        raise InvalidAnswers(f"'answers' must be at most {MAX_RESUME_BYTES:,} bytes, not {size:,}")
    return text
