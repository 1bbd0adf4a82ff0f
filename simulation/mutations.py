"""Deliberate faults in the code under test, each of which the simulation must find.

A fault that survives is a hole in the checks. Most are one changed line: the function's source
is taken, changed, and compiled again in its module. A line that is no longer there is an error, so
that the list cannot silently lose its meaning.
"""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from botocore.exceptions import ReadTimeoutError

import dynamodb_helpers
import lambda_function
import worker_lambda
from valro import conversations, tasks
from valro.agent import answers, dialects, runtime

ALWAYS = "attribute_exists(#id)"
MINE_ANYWAY = "#status = :processing AND #claim = :claim AND #event_seq = :seq"
NOT_CANCELLED = f"{MINE_ANYWAY} AND attribute_not_exists(#cancel_requested_at)"


class Line(NamedTuple):
    """A function of which some text is changed."""

    owner: Any
    function: str
    old: str
    new: str

    def apply(self) -> Any:
        """The changed function."""
        function = getattr(self.owner, self.function)
        source = textwrap.dedent(inspect.getsource(function))
        if self.old not in source:
            raise LookupError(f"{function.__qualname__} has no {self.old!r} any more")
        module = inspect.getmodule(function)
        defined: dict[str, Any] = {}
        code = compile(source.replace(self.old, self.new), "<mutation>", "exec")
        exec(code, vars(module), defined)  # noqa: S102  our own source
        return defined[self.function]


class Constant(NamedTuple):
    """A constant that gets another value."""

    owner: Any
    name: str
    value: Any

    @property
    def function(self) -> str:
        """Where it is put."""
        return self.name

    def apply(self) -> Any:
        """The other value."""
        getattr(self.owner, self.name)
        return self.value


Store, Claim = dynamodb_helpers.TaskStore, dynamodb_helpers.Claim
Run, Progress = worker_lambda.TaskRun, worker_lambda.Progress
Report = tasks.Report
Agent = runtime.AgentRuntime

MUTATIONS: dict[str, Line | Constant] = {
    # the claim
    "unconditional claim": Constant(dynamodb_helpers, "IS_CLAIMABLE", ALWAYS),
    "claim past the deadline": Constant(dynamodb_helpers, "IS_CLAIMABLE", "#status = :pending"),
    "claim without its token": Line(
        Store, "claim_task", 'task.get("claim") != token or task', "task"
    ),
    "claim token is the request id": Line(
        Run, "_claim", "uuid.uuid4().hex", "self.context.aws_request_id"
    ),
    "claim's deadline before the worker's end": Constant(
        dynamodb_helpers, "DEADLINE_MARGIN_SECONDS", -300
    ),
    "claimed task's events in the wrong order": Line(
        Store,
        "claim_task",
        "update_request(attributes, events, ",
        "update_request(attributes, events[::-1], ",
    ),
    "clock of the API ignored by the claim": Line(
        Store, "claim_task", "max(timestamp(now), created_at)", "timestamp(now)"
    ),
    "deleted task made again": Line(worker_lambda, "_created_if_by_hand", "task.created_at", '""'),
    "creation time of a task made by hand ignored": Line(
        worker_lambda, "_created_if_by_hand", 'existing.get("created_at") or ""', '""'
    ),
    # progress and the outcome
    "event_seq not checked": Constant(
        dynamodb_helpers, "IS_MINE", "#status = :processing AND #claim = :claim"
    ),
    "final write unconditional": Constant(dynamodb_helpers, "IS_MINE", ALWAYS),
    "written progress not recognized": Line(
        Store, "_update_claimed", "not 0 <= arrived <= carried", "True"
    ),
    "written outcome not recognized": Line(
        Store, "_update_claimed", 'found["status"] == attributes.get("status")', "False"
    ),
    "outcome before the last progress": Line(
        Store,
        "_update_claimed",
        "[*timeline.unwritten, *last_events]",
        "[*last_events, *timeline.unwritten]",
    ),
    "failed progress forgotten": Line(
        Progress,
        "_write",
        "except Exception as error:",
        "except Exception as error:\n            self.claim.timeline.unwritten.clear()",
    ),
    "last progress forgotten": Line(
        Progress, "close", "        self._note_lines()", "        self.lines.clear()"
    ),
    "progress twice": Line(
        Progress, "_note_lines", "add_progress(ts, message)", "add_progress(ts, message * 2)"
    ),
    "outcome tried once": Line(
        Run, "_end", "self._persist(\n", "(lambda write, before: write())(\n"
    ),
    "unwritten answer not logged": Line(
        Run,
        "_end",
        "            self._log_answer(result)\n            self._outcome",
        "            self._outcome",
    ),
    "late answer not logged": Line(Run, "_end", 'self._log("answer came too late", kept)', "pass"),
    "no time kept for the outcome": Constant(worker_lambda, "RESERVE_SECONDS", 0.0),
    "our own fault leaves the task": Line(
        Run, "run", 'result = AgentLost("The worker', 'raise AgentLost("The worker'
    ),
    "answer's chunks beside the transaction": Line(
        Store,
        "_write",
        "for chunk in chunks]",
        "for chunk in chunks]\n"
        "    if chunks:\n"
        "        self.client.put_item(TableName=self.table_name, Item=chunks[0])\n"
        "        del puts[0]",
    ),
    "answer fitted at every try": Line(
        Store,
        "_final_update",
        "now = timestamp(self.clock())",
        "from valro import tasks; tasks.fit_answer(outcome.parts); now = timestamp(self.clock())",
    ),
    "answer too large for DynamoDB given up": Line(
        Run, "_end", "outcome = outcome.shorter()", "raise"
    ),
    "answer that DynamoDB refuses not told from others": Line(
        Run, "_end", "is_permanent_rejection(failure) and", "False and"
    ),
    # the agent's call
    "botocore's retries for the agent": Line(
        Agent, "_client", '{"total_max_attempts": 1}', '{"mode": "standard"}'
    ),
    "max_attempts for the agent": Line(
        Agent, "_client", '{"total_max_attempts": 1}', '{"max_attempts": 1}'
    ),
    "agent called again after a read timeout": Constant(
        runtime, "NOT_CONNECTED", (*runtime.NOT_CONNECTED, ReadTimeoutError)
    ),
    "proxy that breaks a call means no connection": Line(
        runtime,
        "_proves_not_started",
        "isinstance(cause, (NewConnectionError, NoConnectionInTime))",
        "True",
    ),
    "refusal believed under any status": Line(
        dynamodb_helpers,
        "item_that_failed_condition",
        "if not is_genuine_aws_error(error):",
        "if False:",
    ),
    "code believed under any status": Line(
        runtime, "_proves_not_started", "_status(error) in NOT_STARTED_STATUSES", "True"
    ),
    "cut error answer called not started": Line(
        runtime, "_agent_error", "isinstance(error, BotoCoreError)", "True"
    ),
    "a look taken for the end of the agent's time": Line(
        Agent, "_next", "if now >= deadline.end:", "if now >= deadline.next_stop_check:"
    ),
    "error without words is an answer": Line(
        dialects, "_failure", 'or frame.get("error_type")', ""
    ),
    "blank is an answer": Line(
        answers.Answer, "__bool__", "self.agent_response.strip()", "self.agent_response"
    ),
    "answer not logged before it is written": Line(
        Run, "_log_in_time", "self.time_left() < 2 * WRITE_SECONDS + LOG_SECONDS", "False"
    ),
    "garbage not logged": Line(Run, "_log_rest", "if not self.is_logged:", "if False:"),
    "agent called again after a 5xx": Line(
        runtime, "_proves_not_started", "return is_own and", "return True or"
    ),
    "agent's time unbounded": Line(
        Agent, "_next", "min(deadline.end, deadline.next_stop_check) - now", "1_000_000"
    ),
    "lost agent called not started": Constant(answers.AgentLost, "consequence", tasks.UNSTARTED),
    "failed agent called not started": Constant(
        answers.AgentFailed, "consequence", tasks.UNSTARTED
    ),
    "session stopped before the outcome": Line(
        Run, "run", "progress.close()", "progress.close(); self._stop_session()"
    ),
    # reads
    "repair is read, then written": Constant(
        dynamodb_helpers, "STATUS_AND_DEADLINE_UNCHANGED", ALWAYS
    ),
    "one task not repaired": Line(Store, "get_task", "self._expire_if_overdue(task)", "task"),
    "lists not repaired": Line(Store, "list_tasks", "self._shown(task) for", "task for"),
    "read that is not consistent": Line(
        Store, "find_task", "ConsistentRead=True", "ConsistentRead=False"
    ),
    "pending for too long": Constant(dynamodb_helpers, "PENDING_SECONDS", 1_500),
    # cancelling and deleting
    "cancel that forgets that the task must run": Constant(
        dynamodb_helpers, "IS_RUNNING_ON", "attribute_exists(#id)"
    ),
    "cancel that forgets the token": Constant(
        dynamodb_helpers, "IS_MINE_TO_CANCEL", "attribute_exists(#cancel_requested_at)"
    ),
    "cancellation of somebody else's task": Line(
        Store,
        "cancel_task",
        "self.get_task(task_id, owner)",
        "self._expire_if_overdue(self.find_task(task_id))",
    ),
    "stop without a request": Line(
        worker_lambda, "stop_agent", 'not ("cancel_requested_at" in task or', "not (True or"
    ),
    "stop not sent": Line(lambda_function, "cancel_task", "send_stop(task)", "pass"),
    "agent called again without a confirmation": Line(
        runtime.AgentRuntime,
        "_start",
        "        before_start()",
        "        not attempt and before_start()",
    ),
    "claim found again is a fresh right": Line(
        Store, "claim_task", "is_fresh=is_written", "is_fresh=True"
    ),
    "confirmation that ignores a cancellation": Line(
        Store, "confirm_claim", "condition=IS_MINE_IN_TIME", f"condition={MINE_ANYWAY!r}"
    ),
    "progress that ignores a cancellation": Line(
        Store, "_update_claimed", "condition: str = IS_MINE", f"condition: str = {MINE_ANYWAY!r}"
    ),
    "cancelled outcome shown as completed": Constant(dynamodb_helpers, "IS_MINE", MINE_ANYWAY),
    "silence that does not look": Line(
        Run, "_should_stop", "claim: Claim) -> bool:", "claim: Claim) -> bool:\n    return False"
    ),
    "cancellation not ended by readers": Line(
        dynamodb_helpers, "expiry_code", "if requested and", "if False and"
    ),
    "delete that frees the id": Line(
        Store,
        "delete_task",
        "self.client.transact_write_items(",
        "self.client.aws.table.items.pop(task_id, None) and dict(",
    ),
    "delete of what has not ended": Line(
        Store, "delete_task", 'task["status"] not in FINAL_STATUSES', "False"
    ),
    "tombstone shown": Line(
        Store, "find_task", 'task.get("status") == DELETED', '"status" not in task'
    ),
    "key of a deleted task not told": Line(
        lambda_function, "post_task", 'task["status"] == DELETED', "False"
    ),
    # agents that report
    "report judged before its token": Line(
        lambda_function,
        "post_report",
        '        if scheme.lower() != "bearer"',
        '        read_report(request, token.strip())\n        if scheme.lower() != "bearer"',
    ),
    "report on any token": Line(
        lambda_function, "post_report", "hmac.compare_digest(digest.encode(),", "bool(digest or"
    ),
    "token told in the timeline": Line(
        lambda_function, "read_report", "redact(token, parse(", "(parse("
    ),
    "report counted twice": Line(
        Report, "apply_to", '[*task["report_ids"], self.id][-REPORT_IDS:]', "[]"
    ),
    "report that forgets the one before": Constant(
        dynamodb_helpers,
        "IS_LAST_REPORT",
        "#status = :processing AND attribute_not_exists(#cancel_requested_at)",
    ),
    "reports' lines not counted": Line(
        Report,
        "apply_to",
        "Timeline.of(task)",
        'Timeline(task["event_seq"], task["updated_at"])',
    ),
    "accept that resets a report": Line(
        Store, "accept_task", "attributes)", f"attributes, condition={NOT_CANCELLED!r})"
    ),
    "reader that ignores that an agent reports": Line(
        dynamodb_helpers, "expiry_code", '"last_report" not in task', "True"
    ),
    "reader that ignores a later report": Constant(
        dynamodb_helpers, "STATUS_AND_DEADLINE_UNCHANGED", "#status = :as_read"
    ),
    "reports for ever": Line(
        Report,
        "apply_to",
        'min(timestamp(now + REPORT_SILENCE_SECONDS), task["report_until"])',
        "timestamp(now + REPORT_SILENCE_SECONDS)",
    ),
    "silent agent goes on after its 8 hours": Line(
        Report, "is_too_late", 'now > task["report_until"]', "False"
    ),
    "final report that loses to a sign of life": Line(
        Store, "report", "        task = found\n", "        return found\n"
    ),
    "reported end of a cancelled task": Line(
        Report, "apply_to", "outcome.cancelled(MAY_HAVE_ACTED)", "outcome"
    ),
    "agent not told to stop": Line(
        lambda_function, "post_report", ' and "cancel_requested_at" not in task', ""
    ),
    "late end of a report not logged": Line(
        lambda_function, "post_report", "log_in_parts(", "(lambda *_, **__: None)("
    ),
    "answer of a report too large for DynamoDB given up": Line(
        Store, "report", "if not (outcome", "if True or (outcome"
    ),
    "session of an expired agent left alone": Line(
        lambda_function, "_stop_reporting", '"last_report" in task', "False"
    ),
    "cancelled agent that reports not ended by its stop": Line(
        worker_lambda, "stop_agent", "    if reports:\n", "    if False:\n"
    ),
    # the API
    "API writes the status after the invoke": Line(
        lambda_function,
        "dispatch",
        "    if error is None:\n",
        "    if error is None:\n"
        "        from valro.dynamodb_items import update_request\n"
        '        lines = [{"ts": task["created_at"], "message": "Invoked", "type": "info"}]\n'
        '        update = update_request({"status": "pending"}, lines, "attribute_exists(#id)", {})\n'
        '        tasks()._write(task["id"], update)\n',
    ),
    "repeated dispatch fails the task": Line(
        lambda_function, "dispatch", "if not is_new:", "if False:"
    ),
    "cut error answer of Lambda's not caught": Line(
        lambda_function,
        "invoke_worker",
        "except Exception as error",
        "except (BotoCoreError, ClientError) as error",
    ),
    "answer of Lambda's that breaks off is a refusal": Line(
        lambda_function,
        "invoke_worker",
        "    with suppress(BotoCoreError, HTTPError):\n        response",
        "    try:\n"
        "        response['Payload'].read()\n"
        "    except BotoCoreError as error:\n"
        "        return error\n"
        "    else:\n"
        "        response",
    ),
    "DEL counted as one byte": Line(
        lambda_function,
        "list_tasks",
        "size_as_json(part)",
        'size_as_json(part.replace("\x7f", "d"))',
    ),
    "failed dispatch unconditional": Constant(dynamodb_helpers, "IS_PENDING", ALWAYS),
    "failed dispatch told though not written": Line(
        lambda_function,
        "_fail_dispatch",
        "        return task\n",
        '        failure = {"status": "error", "error_code": DISPATCH_FAILED}\n'
        '        return task | failure | {"error_message": message}\n',
    ),
    "creation not recognized": Line(
        Store,
        "_created_or",
        'existing.get("creation_token") == task["creation_token"]',
        "not existing",
    ),
    "creation unconditional": Constant(
        dynamodb_helpers, "IS_NEW", "attribute_not_exists(#no_such)"
    ),
    "no dispatch for a repeated POST": Constant(lambda_function, "REDISPATCH_SECONDS", 10**9),
    "key without its owner": Line(
        lambda_function, "idempotent_id", "json.dumps([owner, key])", "json.dumps([key])"
    ),
    "owner without its key": Line(
        lambda_function, "idempotent_id", "json.dumps([owner, key])", "json.dumps([owner])"
    ),
    "key forgotten": Line(
        lambda_function, "post_task", "if key is None else idempotent_id(owner, key)", ""
    ),
    "key with another body": Line(
        lambda_function, "post_task", 'task.get("fingerprint") != fingerprint', "False"
    ),
    "everybody's tasks": Line(Store, "get_task", 'task.get("owner") != owner', "False"),
    "internals shown": Line(lambda_function, "public_task", "return shown |", "return task |"),
    "AWS's words shown": Line(
        lambda_function, "_fail_dispatch", '["Error"]["Code"]', '["Error"]["Message"]'
    ),
    # conversations
    "follow-up and its link written one after the other": Line(
        Store,
        "follow_task",
        "self._send(self.client.transact_write_items, TransactItems=writes)",
        '(self._send(self.client.put_item, **writes[0]["Put"]), '
        'self._send(self.client.update_item, **writes[1]["Update"]))',
    ),
    "follow-up in a session that is stopped": Line(
        conversations, "_open_session", 'if earlier.get("session_open")', "if True"
    ),
    "session that was to be stopped handed on": Line(
        conversations, "_open_session", '"cancel_requested_at" not in unstarted', "True"
    ),
    "stop after a question": Line(worker_lambda, "_ends_session", " and not result.interrupts", ""),
}


@contextmanager
def mutated(name: str) -> Iterator[None]:
    """Puts a fault into the code; none if the name is empty."""
    if not name:
        yield
        return
    mutation = MUTATIONS[name]
    original = getattr(mutation.owner, mutation.function)
    setattr(mutation.owner, mutation.function, mutation.apply())
    try:
        yield
    finally:
        setattr(mutation.owner, mutation.function, original)
