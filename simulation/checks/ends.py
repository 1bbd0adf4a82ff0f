"""What must be true in the end, once nothing more can happen."""

import json
from collections import Counter, defaultdict

from simulation.agent import AgentRun
from simulation.checks.known import FINAL, NO_MORE, Known, Life, Report, events_of, must
from simulation.dynamodb import Item
from simulation.world import Json, Sandbox

MOST_LINES = 5  # of what an agent says
LOG_FIRST_SECONDS = 39.0  # with less time left a worker logs the answer before it writes it
# The bytes that a task can keep of an answer, as small as answers are here; as Lambda counts them.
MOST_STORED, MOST_SENT = 4_000, 9_000
WORKER_VANISHED = "The worker stopped without reporting an outcome"


def check_ends(known: Known, items: dict[str, Item], tasks: dict[str, Json]) -> None:
    """Checks the whole, once nothing more can happen; ``tasks`` are as clients see them."""
    log = _log_of_answers(known.world.log_lines)
    for task_id, task in tasks.items():
        must("every task ends", task["status"] in FINAL, f"{task_id} is {task['status']}")
    for task_id, life in known.lives.items():
        wrong = life.told_not_started and bool(life.runs)
        must("nobody is told that an agent did not start which did", not wrong, task_id)
        for run in life.runs:
            _check_answer_kept(known, run, tasks.get(task_id), log[task_id])
        for report in life.too_late:
            said = json.dumps(report.body(), ensure_ascii=False)
            is_told = said.replace(report.token, "[token]") in log[task_id]
            must("an answer that came too late is in the log", is_told, report.id)
        if life.end:
            _check_report_kept(life.end, tasks.get(task_id))
        _check_link(known, task_id, life, items)
        _check_session(known, task_id, life)
        item = life.item or items[task_id]
        if life.ended:
            _check_progress_kept(life, item)
            _check_reports_kept(life, item)
            _check_cause(known, task_id, life, item)
    if known.tokens:
        everything = f"{items}{known.world.log_lines}"
        told = [token for token in known.tokens if token in everything]
        must("nobody is told a token", not told, f"{told}")
    _check_log(known)


def _check_link(known: Known, task_id: str, life: Life, items: dict[str, Item]) -> None:
    """A follow-up and the task that it follows know of each other."""
    if not life.follows:
        return
    earlier = known.lives[life.follows].item or items[life.follows]
    link = earlier.get("followed_by", {}).get("S")
    gave_way = bool(link) and life.never_started
    must("a follow-up is linked", link == task_id or gave_way, task_id)


def _check_reports_kept(life: Life, item: Item) -> None:
    """Each report that its agent knows to be received is in the timeline, once and in order."""
    if life.accepted_at is None:
        return
    lines = [event["message"] for event in events_of(item)]
    counts = Counter(line for line in lines if line.startswith("Report "))
    most = sum(counts.values()) + sum(line.startswith("Step ") for line in lines)
    must("an agent says so much and no more", most <= MOST_LINES, f"{most} lines")
    twice = [line for line, count in counts.items() if count > 1]
    must("a report is told once", not twice, f"{twice}")
    foreign = [line for line in counts if line.startswith("Report of others")]
    must("nobody else reports", not foreign, f"{foreign}")
    for report in life.received:
        told = all(line in counts for line in report.lines()) or NO_MORE in lines
        must("a report that was received is told", told, report.id)


def _check_report_kept(report: Report, task: Json) -> None:
    """The task has the answer with which its agent ended it."""
    if task and report.answer:
        text, whole = task.get("agent_response", ""), report.answer["response"]
        cut = task.get("agent_response_truncated") and text and whole.startswith(text)
        must("a final report is the outcome", text == whole or bool(cut), f"{report.id}")


def _check_session(known: Known, task_id: str, life: Life) -> None:
    """The session of an agent that is to stop has ended, unless nobody could be told to end it."""
    queue, reader = known.aws.queue, life.ended_by
    if not known.is_left_alone(life) or task_id in queue.stops_lost:
        return
    # Who cancels is held by its reply to send a stop.
    hindered = life.cancelled_at is not None or (reader and (reader.cause or reader.faults))
    sent = task_id in queue.stops_taken or known.aws.watching  # who sends it at last
    must("a session is not left alone", bool(hindered) and not sent, task_id)


def _check_progress_kept(life: Life, item: Item) -> None:
    """What the agent said is in the timeline, once and in order, if its worker ended the task."""
    lines = [event["message"] for event in events_of(item)]
    said = [line for line in lines if line.startswith("Step ")]
    heard = life.runs[0].heard if life.runs else []
    must("progress is what the agent said", said == heard[: len(said)], f"{said} of {heard}")
    if life.ended_by is life.holder and len(said) < len(heard):
        must("no progress is lost", NO_MORE in lines, f"{said} of {heard}")


def _check_answer_kept(known: Known, run: AgentRun, task: Json, logged: str) -> None:
    """A good answer that a worker has read is in the task, or in the log at least."""
    life = known.lives[run.task_id]
    if run.unread and run.unread_by and not _was_cut_off(known, run.unread_by, run):
        # What there is room for comes before the last write, and the rest after it.
        is_rest = bool(run.unread_by.cause) and run.unread != run.text
        told = is_rest or run.unread in logged
        must("what nobody understood is in the log", told, run.task_id)
    reader = run.answered_to or run.told_to
    if not reader or _was_cut_off(known, reader, run):
        return
    stored = _held(life.item, run) if life.item else bool(task) and _holds(task, run)
    must(
        "an answer is in the store or in the log",
        stored or run.text in logged or _would_be_kept(logged, run),
        f"{run.task_id}: {task and task['status']}, worker {reader.cause or 'finished'}",
    )
    asked = life.cancelled_at is not None  # and somebody else has written its end
    no_time = reader.cause == "timeout" and reader.faults["size refused"] > 0
    deleted = life.is_deleted and life.ended_by is not reader
    forgiven = "dynamodb" in reader.troubled or deleted or asked or no_time
    must(
        "an answer is not in the store only if DynamoDB failed",
        stored or forgiven,
        f"{run.task_id}: {task and task['status']}",
    )


def _check_cause(known: Known, task_id: str, life: Life, item: Item) -> None:
    """Nothing fails, and nobody vanishes, without a cause."""
    status = item["status"]["S"]
    if status == "completed" or item.get("error_code", {}).get("S") == "cancelled":
        return
    must("nothing fails in a world without faults", bool(known.world.faults), task_id)
    message = item.get("error_message", {}).get("S", "")
    if WORKER_VANISHED in message and life.accepted_at is None:
        holder = life.holder
        assert holder
        cause = holder.cause not in ("", "timeout") or "dynamodb" in holder.troubled
        cause = cause or bool(holder.faults["size refused"])
        must("a worker writes its outcome", cause, f"{task_id}: {holder.cause}")


def _check_log(known: Known) -> None:
    """A worker's log agrees with its task's end."""
    for line in known.world.log_lines:
        if '"outcome"' not in line or '"duration_ms"' not in line:
            continue
        entry = json.loads(line)
        life, outcome = known.lives.get(entry["task_id"]), entry["outcome"]
        if life and outcome in FINAL:
            must("the log tells the outcome", life.ended == outcome, line)
        elif life and outcome == "lost":
            holder = life.holder
            lost = life.ended_by is not holder or life.is_deleted
            lost = lost or bool(holder and "dynamodb" in holder.troubled)
            must("an answer is called lost only if it is", lost, line)


def _was_cut_off(known: Known, worker: Sandbox, run: AgentRun) -> bool:
    """Whether a worker was killed before it had to have the answer in the log.

    No call that takes too long excuses it: it looks at the time that is left once the answer is
    fitted, and before each try to write it.
    """
    if worker.cause in ("", "timeout"):
        return False
    fitted = None if run.left_at is None else run.left_at + known.fitting_seconds
    looks = [look for look in (fitted, worker.ending_since) if look and look < worker.died_at]
    return not any(worker.end - look < LOG_FIRST_SECONDS for look in looks)


def _held(item: Item, run: AgentRun) -> bool:
    """Whether a task that was deleted had the answer, of which chunks went with it."""
    text = item.get("agent_response", {}).get("S", "")
    is_cut = "agent_response_truncated" in item and bool(text) and run.text.startswith(text)
    return "chunks" in item or text == run.text or is_cut


def _holds(task: Json, run: AgentRun) -> bool:
    text = task.get("agent_response", "")
    if task.get("agent_response_truncated"):
        return bool(text) and run.text.startswith(text)
    mails = [vendor["emails"] for vendor in task["vendors"]]
    return bool(text == run.text and mails == [run.answer["emails"]])


def _would_be_kept(logged: str, run: AgentRun) -> bool:
    """Whether the log has what the task would keep of an answer that is too long for it."""
    start = logged.find('{"vendors": ')
    if start < 0:
        return False
    kept, end = json.JSONDecoder().raw_decode(logged, start)
    stored, sent = len(logged[start:end].encode()), len(json.dumps(logged[start:end]))
    is_full = stored > MOST_STORED - 100 or sent > MOST_SENT - 100
    return is_full and run.text.startswith(kept["agent_response"])


def _log_of_answers(lines: list[str]) -> dict[str, str]:
    """The answers in the log, put together from their parts."""
    found: dict[str, str] = defaultdict(str)
    for line in lines:
        if '"part"' in line:
            entry = json.loads(line)
            found[entry["task_id"]] += entry["text"]
    return found
