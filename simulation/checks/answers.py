"""What must be true of every reply of the API, to people and to agents that report."""

import json

from simulation.checks.known import FINAL, NOT_STARTED, ORDER, Known, Reply, Report, has_tried, must
from simulation.wire import ACCOUNT
from simulation.world import Json, Sandbox

REDISPATCH_BOUND = 31.0
# As many bytes as Lambda takes of a response, were it as small as answers are here.
MOST_OF_A_LIST = 3_300
MOST_OF_A_TASK = 14_500
PUBLIC = frozenset(
    "id description status vendors quotes emails_sent events created_at updated_at agent_response "
    "agent_response_truncated error_message error_code cancel_requested_at thread_id follows "
    "followed_by interrupts may_have_acted started_at completed_at".split()
)
INTERNALS = (ACCOUNT, "arn:", "Traceback", "creation_token", "fingerprint", "token-", "jwt#")


def answered_in_time(method: str, path: str, sandbox: Sandbox) -> None:
    """The API's own time is enough for all the tries that it makes."""
    in_time = sandbox.cause != "timeout" or sandbox.is_overtaken
    must("the API answers in time", in_time, f"{method} {path}")


def replied(known: Known, reply: Reply) -> None:
    """Checks any reply."""
    owner, path, sandbox = reply.owner, reply.path, reply.sandbox
    told = f"{reply.text} {reply.headers}"
    if (reply.method, path) == ("POST", "/tasks") and 400 <= reply.status < 500:
        own = [life for life in known.lives.values() if life.maker is sandbox]
        # botocore may send again what was done, and find it deleted meanwhile.
        is_gone = reply.status == 410 and all(life.is_deleted for life in own)
        must("what is refused does not exist", not own or is_gone, reply.text)
    leaks = [word for word in (*INTERNALS, *known.tokens) if word in told]
    must("nothing internal leaks", not leaks, f"{leaks} in {reply.text[:300]}")
    tried = reply.status != 500 or has_tried(sandbox)
    must("no 500 for what a second attempt mends", tried, reply.text)
    if reply.status == 202 and path.endswith("/cancel"):
        sent = path.split("/")[2] in sandbox.stops_taken or sandbox.faults["lambda"] > 0
        must("a request to cancel is sent on", sent, path)
    if reply.method == "GET" and reply.status == 200:
        tasks = reply.body if isinstance(reply.body, list) else [reply.body]
        for task in tasks:
            _shown(known, reply, task, is_list=isinstance(reply.body, list))
        # Lambda's runtime puts the body into JSON, DEL as six bytes, like all but ASCII.
        size = len(json.dumps(reply.text))
        most = MOST_OF_A_TASK if len(tasks) <= 1 else MOST_OF_A_LIST
        must("a response is not too large for Lambda", size <= most, f"{path}: {size} bytes")
        made = [task["created_at"] for task in tasks]
        must("the newest comes first", made == sorted(made, reverse=True), f"{made}")
        if "status=" in path:
            wanted = path.partition("status=")[2].partition("&")[0].split(",")
            others = [task["status"] for task in tasks if task["status"] not in wanted]
            must("a list shows what was asked for", not others, f"{path}: {others}")
    if reply.method == "GET" and reply.status == 404:
        task_id = path.removeprefix("/tasks/")
        must("what was told of is found", known.told.get(task_id, "") != owner, task_id)


def _shown(known: Known, reply: Reply, task: Json, *, is_list: bool) -> None:
    task_id, status = task["id"], task["status"]
    extra = task.keys() - PUBLIC
    must("nothing internal leaks", not extra, f"{extra}")
    if task_id in known.told:
        must("everyone sees their own", known.told[task_id] == reply.owner, task_id)
    deleted = known.lives[task_id].deleted_at if task_id in known.lives else None
    gone = deleted is not None and deleted < reply.sandbox.started
    must("what was deleted is not seen again", not gone, task_id)
    last = task["events"][-1]["type"]
    agrees = last == {"completed": "success", "error": "error"}.get(status, "info")
    must("status and last event agree", agrees, f"{status}: {task['events']}")
    # Read after the request came: what was overdue then must have been ended by this read.
    late = reply.sandbox.started - known.due(task_id) - known.tolerance
    # In a list, one that cannot be written is shown as it is.
    if status not in FINAL and not (is_list and has_tried(reply.sandbox)):
        must("every task ends in time", late <= 0, f"{task_id} is {status}, {late:.1f} s late")


def posted(known: Known, key: str | None, description: str, reply: Reply) -> None:
    """Checks what a POST was answered."""
    owner = reply.owner
    earlier = known.lives.get(known.by_key.get((owner, key or ""), ""))
    if earlier and earlier.deleted_at is not None:
        gone = reply.status in (410, 500) or earlier.deleted_at > reply.started
        must("the key of a deleted task is used up", gone, reply.text)
        return
    if reply.status == 422 and key:
        return
    task_id = reply.body.get("id")
    must("a POST is answered", reply.status in (202, 500, 502), reply.text)
    if reply.status == 500:
        return
    must("what was told of exists", task_id in known.lives, reply.text)
    if not known.lives[task_id].is_deleted:
        known.told[task_id] = owner
    if NOT_STARTED in reply.text:
        known.lives[task_id].told_not_started = True
    if key:
        first = known.by_key.setdefault((owner, key), task_id)
        must("a key makes one task", first == task_id, f"{key}: {first} and {task_id}")
    others = [other for other, made in known.by_key.items() if made == task_id]
    mine = [(owner, key)] if key else []
    must("a task belongs to one key", others == mine, f"{task_id}: {others}")
    if not key and reply.status == 202:
        new = "Idempotent-Replayed" not in reply.headers
        must("a POST without a key is no repetition", new, reply.text)
    life = known.lives[task_id]
    must("a task is what was asked for", life.description == description, reply.text)
    age = known.world.now - life.made
    if reply.status == 202 and reply.body["status"] == "pending" and not reply.sandbox.faults:
        due = not key or age > REDISPATCH_BOUND + known.tolerance
        is_taken = task_id in known.aws.queue.accepted
        must("a task is handed to Lambda", is_taken or not due, reply.text)


def refused_to_follow(known: Known, earlier_id: str, reply: Reply) -> None:
    """Checks why a task cannot be followed."""
    earlier = known.lives[earlier_id]
    match reply.status, reply.body["code"]:
        case 403, "not_allowed":
            must("who is signed in may", reply.owner is None, reply.text)
        case 404, "task_not_found":
            mine = known.told.get(earlier_id, "") == reply.owner
            must("everyone's own task is found", earlier.is_deleted or not mine, earlier_id)
        case 409, "task_not_final":
            had_ended = earlier.ended_at is not None and earlier.ended_at < reply.started
            must("what has ended can be followed", not had_ended, reply.text)
        case 409, "already_followed":
            follower = known.lives[reply.body["followed_by"]]
            must("a task is followed by its follower", follower.follows == earlier_id, reply.text)
        case 400, "invalid_answers":
            must("only what is asked is answered", not earlier.asks, reply.text)
        case _:
            must("a follow-up is answered", reply.status == 500, reply.text)


def cancelled(known: Known, task_id: str, reply: Reply) -> None:
    """Checks what a request to cancel was answered."""
    life, status = known.lives[task_id], reply.status
    if not _may(known, task_id, reply):
        return
    must("a cancellation is answered", status in (200, 202, 409, 500), reply.text)
    if status == 200:
        so = reply.body["status"] == "error" and reply.body["error_code"] == "cancelled"
        must("what is told to be cancelled is", so and life.ended == "error", reply.text)
        life.is_cancelled = True
    elif status == 202:
        asked = reply.body["status"] == "processing" and life.cancelled_at is not None
        must("what is told to end is asked to", asked, reply.text)
    elif status == 409:
        must("only what has ended cannot be cancelled", bool(life.ended), reply.text)


def removed(known: Known, task_id: str, reply: Reply) -> None:
    """Checks what a DELETE was answered."""
    life, status = known.lives[task_id], reply.status
    if not _may(known, task_id, reply):
        return
    must("a deletion is answered", status in (204, 409, 500), reply.text)
    must("what is told to be deleted is", status != 204 or life.is_deleted, task_id)


def _may(known: Known, task_id: str, reply: Reply) -> bool:
    """Whether a request about one task was answered to somebody who may do that."""
    life = known.lives[task_id]
    if reply.status == 403:
        must("who is signed in may", reply.owner is None, reply.text)
    elif reply.status == 404:
        mine = known.told.get(task_id, "") == reply.owner
        must("everyone's own task is found", life.is_deleted or not mine, task_id)
    elif reply.status != 500:
        mine = life.is_deleted or known.told.get(task_id, reply.owner) == reply.owner
        must("nobody touches another's task", mine, f"{task_id} by {reply.owner}")
        return True
    return False


def reported(known: Known, report: Report, reply: Reply) -> None:
    """Checks what a report was answered."""
    life, status = known.lives[report.task_id], reply.status
    detail = f"{report.id}: {status} {reply.text}"
    if not report.is_right:
        must("a wrong token is judged first", status in (401, 500), detail)
        return
    refusal = 400 if not report.is_usable else 413 if report.is_too_large else 0
    answers = (refusal, 500) if refusal else (200, 409, 500, 503)
    gone = status == 401 and life.is_deleted
    must("a report is answered", status in answers or gone, detail)
    if status == 409:
        since = min(life.accepted_at or reply.started, life.ended_at or reply.started)
        must("what is accepted takes reports", since >= reply.started, detail)
    if status != 200:
        return
    goes_on = reply.body["continue"]
    if report.is_final:
        over = not goes_on and reply.body["status"] in FINAL
        must("a final report is final", over and bool(life.ended), detail)
        if life.end is not report:
            life.too_late.append(report)
    elif goes_on:
        life.received.append(report)
        asked = life.cancelled_at is not None and life.cancelled_at < reply.started
        late = reply.started - life.until - known.tolerance
        must("who is to stop is told so", not asked and late <= 0, detail)


def seen_again(before: Json, task: Json) -> None:
    """Checks what one poller saw, after what it saw before."""
    if not before:
        return
    goes_on = ORDER[task["status"]] >= ORDER[before["status"]]
    link = {"followed_by": task["followed_by"]} if "followed_by" in task else {}
    same = before["status"] not in FINAL or before | link == task
    grown = task["events"][: len(before["events"])] == before["events"]
    detail = f"{before['status']}, then {task['status']}: {task['events']}"
    must("a poller never goes back in time", goes_on and same and grown, detail)


def seen_unchanged(before: Json, reply: Reply) -> None:
    """Checks a 304."""
    same = before["updated_at"] in reply.headers["ETag"]
    must("a 304 is for what has not changed", same, f"{reply.headers}")
