"""The whole backend on a local AWS: the real scripts, zips, policies, HTTP and agent.

The local AWS enforces the two roles' policies (AUTH=true), so that whatever works here works with
what iam-policy.json and worker-iam-policy.json grant.
"""

import json
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urljoin

import pytest

from local import faults
from local.vendors import build_answer
from tests.api.breaking import COMPLETED, CREATED, PROMPT, STARTED, at_work, messages, outcomes
from tests.conftest import Deployment, eventually

pytestmark = pytest.mark.e2e

PUBLIC_KEYS = {
    "id",
    "description",
    "status",
    "vendors",
    "quotes",
    "emails_sent",
    "events",
    "created_at",
    "updated_at",
    "thread_id",
    "started_at",
    "completed_at",
}


# The journey of a task


def test_a_task_runs_from_post_to_completed_as_its_poller_sees_it(stack: Deployment):
    accepted = stack.api.request("POST", "/tasks", {"description": PROMPT})

    assert accepted.status == 202
    task_id = accepted.json()["id"]
    assert accepted.json() == {
        "id": task_id,
        "status": "pending",
        "message": "Task created and processing started",
    }
    assert urljoin("/tasks", accepted.headers["Location"]) == f"/tasks/{task_id}"
    assert int(accepted.headers["Retry-After"]) >= 1

    task = stack.finish(task_id)

    assert task["status"] == "completed"
    assert messages(task) == [
        CREATED,
        *STARTED,
        "Looking for landscapers in Charlotte within $300",
        "Found 3 landscapers within $300",
        "E-mailed Green Fern Landscaping at green-fern-landscaping@example.com",
        "E-mailed Queen City Lawn & Garden at queen-city-lawn-garden@example.com",
        "E-mailed Dogwood Outdoor Care at dogwood-outdoor-care@example.com",
        "Comparing quotes",
        COMPLETED,
    ]
    assert [event["type"] for event in task["events"]] == ["info"] * 9 + ["success"]
    assert [event["ts"] for event in task["events"]] == sorted(e["ts"] for e in task["events"])
    assert set(task) == PUBLIC_KEYS | {"agent_response"}
    assert task["description"] == PROMPT
    assert task["agent_response"] == build_answer(PROMPT)["response"]
    assert task["emails_sent"] == 3
    assert [vendor["price"] for vendor in task["vendors"]] == [240, 275.5, 195]
    assert [[e["recipient"] for e in v["emails"]] for v in task["vendors"]] == [
        [vendor["email"]] for vendor in task["vendors"]
    ]
    assert task["quotes"] == build_answer(PROMPT)["quotes"]
    assert outcomes(stack, task_id, 1) == ["completed"]
    assert stack.agent_runs(task_id) == 1


def test_the_list_shows_the_newest_first_and_pages(stack: Deployment):
    older, newer = (stack.run(f"{PROMPT} [agent: quiet]")["id"] for _ in range(2))

    first = eventually(
        lambda: stack.api.request("GET", "/tasks?limit=1"),
        lambda answer: answer.json()[0]["id"] == newer,
    )
    link = first.headers["Link"].partition("<")[2].partition(">")[0]
    second = stack.api.request("GET", urljoin("/tasks?limit=1", link))

    assert [task["id"] for task in second.json()] == [older]
    assert set(first.json()[0]) == PUBLIC_KEYS


# What agents answer


@pytest.mark.parametrize("behaviour", ["json", "text", "pieces", "quiet", "strands"])
def test_every_form_of_answer_completes_the_task(stack: Deployment, behaviour: str):
    task = stack.run(f"{PROMPT} [agent: {behaviour}]")

    assert task["status"] == "completed"
    assert task["agent_response"] == build_answer(PROMPT)["response"]
    assert stack.agent_runs(task["id"]) == 1


def test_what_strands_cannot_serialize_never_reaches_a_person(stack: Deployment):
    task = stack.run(f"{PROMPT} [agent: strands]")

    assert messages(task) == [CREATED, *STARTED, "Using getVendors", COMPLETED]
    assert "{'" not in json.dumps(task, ensure_ascii=False)


def test_odd_values_come_back_as_the_agent_gave_them(stack: Deployment):
    task = stack.run("[agent: odd]")

    given = faults.odd_answer()
    assert task["status"] == "completed"
    assert task["agent_response"] == given["response"]
    assert task["vendors"] == [{**vendor, "emails": []} for vendor in given["vendors"]]
    assert task["quotes"] == given["quotes"]


# With no rights but those of the policies


def test_ten_deliveries_at_once_of_a_task_by_hand_run_the_agent_once(stack: Deployment):
    task_id = f"by-hand-{uuid.uuid4()}"
    event = json.dumps({"task_id": task_id, "description": f"{PROMPT} [agent: stall 1]"})

    def deliver(_: int) -> str:
        answer = stack.client("lambda").invoke(FunctionName="valro-worker", Payload=event)
        return str(json.load(answer["Payload"])["outcome"])

    with ThreadPoolExecutor(10) as pool:
        delivered = list(pool.map(deliver, range(10)))

    assert sorted(delivered) == ["completed"] + ["not_claimed"] * 9
    said = [CREATED, *STARTED, "Waiting for a vendor to answer", COMPLETED]
    assert messages(stack.task(task_id)) == said
    assert stack.agent_runs(task_id) == 1


def test_a_task_is_cancelled_and_deleted_with_the_functions_own_rights(stack: Deployment):
    task_id = at_work(stack, "stall")
    assert stack.task(task_id)["status"] == "processing"

    assert stack.api.request("POST", f"/tasks/{task_id}/cancel").status == 202

    assert stack.finish(task_id, 10)["error_code"] == "cancelled"  # sooner than a reader may
    assert any(task_id in session for session in stack.stack.agent_report()["stopped"])
    for each in (task_id, stack.run("[agent: huge 400000]")["id"]):
        assert stack.api.request("DELETE", f"/tasks/{each}").status == 204
        assert [one for one in stack.ids() if one.startswith(each)] == [each]
        assert stack.api.request("GET", f"/tasks/{each}").status == 404


# Conversations


QUESTION = "Shall I book Green Fern Landscaping for $240?"


def follow(stack: Deployment, earlier: str, description: str, **body: Any) -> Any:
    """Posts a task that follows another one."""
    body = {"description": description, "follows": earlier} | body
    return stack.api.request("POST", "/tasks", body)


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
