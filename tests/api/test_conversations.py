"""Conversations on the whole stack, under its own policies: turns, questions, and who comes first."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.conftest import Deployment

pytestmark = pytest.mark.e2e

PROMPT = "Find me a landscaper in Charlotte under $300"
QUESTION = "Shall I book Green Fern Landscaping for $240?"


def follow(stack: Deployment, earlier: str, description: str, key: str = "", **body: Any) -> Any:
    """Posts a task that follows another one."""
    headers = {"Idempotency-Key": key} if key else {}
    body = {"description": description, "follows": earlier} | body
    return stack.api.request("POST", "/tasks", body, headers)


def finished(stack: Deployment, answer: Any) -> dict[str, Any]:
    """The task that was accepted, once it has ended."""
    assert answer.status == 202, answer.body
    return stack.finish(answer.json()["id"])


def test_three_turns_with_a_question_are_one_conversation_in_one_session(stack: Deployment):
    asked = stack.run(f"{PROMPT} [agent: ask]")
    assert asked["status"] == "completed"
    (interrupt,) = asked["interrupts"]
    assert interrupt["message"] == QUESTION
    assert asked["agent_response"].endswith(QUESTION)
    assert f"The agent asks: {QUESTION}" in [event["message"] for event in asked["events"]]

    refused = follow(stack, asked["id"], "Yes")
    assert (refused.status, refused.json()["code"]) == (400, "answers_required")
    assert refused.json()["interrupts"] == asked["interrupts"]
    answers = {interrupt["id"]: True}
    booked = finished(stack, follow(stack, asked["id"], "Yes", answers=answers))
    assert booked["agent_response"] == "I've booked Green Fern Landscaping for $240."

    more = finished(stack, follow(stack, booked["id"], "Now e-mail those in Raleigh"))
    assert more["agent_response"].startswith("I've contacted 2 landscapers in Raleigh")
    assert [task["thread_id"] for task in (asked, booked, more)] == [asked["id"]] * 3
    assert (booked["follows"], more["follows"]) == (asked["id"], booked["id"])
    assert stack.task(asked["id"])["followed_by"] == booked["id"]
    sessions = stack.stack.agent_report()["sessions"]
    assert {sessions[task["id"]] for task in (asked, booked, more)} == {asked["id"]}
    assert [stack.agent_runs(task["id"]) for task in (asked, booked, more)] == [1, 1, 1]


def test_of_many_at_once_one_follows(stack: Deployment):
    earlier = stack.run(PROMPT)["id"]
    with ThreadPoolExecutor(6) as pool:
        replies = list(pool.map(lambda n: follow(stack, earlier, f"Try {n}"), range(6)))
    codes = [reply.json().get("code", "") for reply in replies]
    assert sorted(codes) == ["", *["already_followed"] * 5]
    (winner,) = (reply.json()["id"] for reply in replies if reply.status == 202)
    assert {reply.json()["followed_by"] for reply in replies if reply.status == 409} == {winner}
    assert stack.task(earlier)["followed_by"] == winner


def test_the_same_key_is_the_same_follow_up_for_all_who_send_it_at_once(stack: Deployment):
    earlier = stack.run(PROMPT)["id"]
    with ThreadPoolExecutor(4) as pool:
        replies = list(pool.map(lambda _: follow(stack, earlier, "More", f"k-{earlier}"), range(4)))
    assert {reply.status for reply in replies} == {202}
    (task_id,) = {reply.json()["id"] for reply in replies}
    assert stack.finish(task_id)["follows"] == earlier
    assert stack.agent_runs(task_id) == 1
    assert stack.api.request("DELETE", f"/tasks/{earlier}").status == 204
    again = follow(stack, earlier, "More", f"k-{earlier}")
    assert (again.status, again.json()["id"]) == (202, task_id)
    gone = follow(stack, earlier, "More")
    assert (gone.status, gone.json()["code"]) == (404, "task_not_found")


def test_a_cancelled_task_can_be_followed_in_a_session_of_its_own(stack: Deployment):
    running = stack.create(f"{PROMPT} [agent: stall]")
    early = follow(stack, running, "Try again, but in Raleigh")
    assert (early.status, early.json()["code"]) == (409, "task_not_final")
    stack.api.request("POST", f"/tasks/{running}/cancel")
    assert stack.finish(running)["error_code"] == "cancelled"
    again = finished(stack, follow(stack, running, "Try again, but in Raleigh"))
    assert "landscapers in Raleigh" in again["agent_response"]
    assert stack.stack.agent_report()["sessions"][again["id"]] == again["id"]
