"""Deliberate faults in the code under test, each of which the simulation must find.

A fault that survives is a hole in the checks. Most are one changed line: the function's source
is taken, changed, and compiled again in its module. A line that is no longer there is an error, so
that the list cannot silently lose its meaning.
"""

import inspect
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple
from unittest import mock

import dynamodb_helpers
import lambda_function
import watcher_lambda
import worker_lambda
from valro import conversations, dynamodb_items, tasks
from valro.agent import runtime

ALWAYS = "attribute_exists(#id)"
MINE_ANYWAY = "#status = :processing AND #claim = :claim AND #event_seq = :seq"


class Change(NamedTuple):
    """A function of which some text is changed; or a constant, if there is no ``old``."""

    owner: Any
    name: str
    old: str = ""
    new: Any = None

    def build(self) -> Any:
        """The changed function, or the constant's other value."""
        if not self.old:
            return self.new
        function = getattr(self.owner, self.name)
        source = textwrap.dedent(inspect.getsource(function))
        if self.old not in source:
            raise LookupError(f"{function.__qualname__} has no {self.old!r} any more")
        defined: dict[str, Any] = {}
        code = compile(source.replace(self.old, self.new), "<mutation>", "exec")
        exec(code, vars(inspect.getmodule(function)), defined)  # noqa: S102  our own source
        return defined[self.name]


Store, Run = dynamodb_helpers.TaskStore, worker_lambda.TaskRun
Agent = runtime.AgentRuntime

MUTATIONS: dict[str, Change] = {
    "claim past the deadline": Change(dynamodb_helpers, "IS_CLAIMABLE", new="#status = :pending"),
    "claim without its token": Change(
        Store, "claim_task", 'task.get("claim") != token or task', "task"
    ),
    "deleted task made again": Change(
        worker_lambda, "_created_if_by_hand", "task.created_at", '""'
    ),
    "event_seq not checked": Change(
        dynamodb_helpers, "IS_MINE", new="#status = :processing AND #claim = :claim"
    ),
    "final write unconditional": Change(dynamodb_helpers, "IS_MINE", new=ALWAYS),
    "botocore's retries for the agent": Change(
        Agent, "_client", '{"total_max_attempts": 1}', '{"mode": "standard"}'
    ),
    "session stopped before the outcome": Change(
        Run, "run", "progress.close()", "progress.close(); self._stop_session()"
    ),
    "repair is read, then written": Change(
        dynamodb_helpers, "STATUS_AND_DEADLINE_UNCHANGED", new=ALWAYS
    ),
    "agent called again without a confirmation": Change(
        Agent, "_start", "        before_start()", "        not attempt and before_start()"
    ),
    "confirmation that ignores a cancellation": Change(
        Store, "confirm_claim", "condition=IS_MINE_IN_TIME", f"condition={MINE_ANYWAY!r}"
    ),
    "progress that ignores a cancellation": Change(
        Store, "_update_claimed", "condition: str = IS_MINE", f"condition: str = {MINE_ANYWAY!r}"
    ),
    "report that forgets the one before": Change(
        dynamodb_helpers,
        "IS_LAST_REPORT",
        new="#status = :processing AND attribute_not_exists(#cancel_requested_at)",
    ),
    "reader that ignores a later report": Change(
        dynamodb_helpers, "STATUS_AND_DEADLINE_UNCHANGED", new="#status = :as_read"
    ),
    "final report that loses to a sign of life": Change(
        Store, "report", "        task = found\n", "        return found\n"
    ),
    "refusal believed under any status": Change(
        dynamodb_items, "is_genuine_aws_error", "in (400, *others)", "> 0"
    ),
    "claim found again is a fresh right": Change(
        Store, "claim_task", "is_fresh=is_written", "is_fresh=True"
    ),
    "delete that frees the id": Change(
        Store,
        "delete_task",
        "self._send(self.client.transact_write_items, ",
        "self.client.aws.table.items.pop(task_id, None) and dict(",
    ),
    "deleted task's session forgotten": Change(tasks, "UNSEEN_ENDS", new=()),
    "answer logged too late": Change(worker_lambda, "LOG_FIRST_SECONDS", new=10.0),
    "API writes the status after the invoke": Change(
        lambda_function,
        "dispatch",
        "    if error is None:\n",
        "    if error is None:\n"
        "        from valro.dynamodb_items import update_request\n"
        '        lines = [{"ts": task["created_at"], "message": "Invoked", "type": "info"}]\n'
        '        update = update_request({"status": "pending"}, lines, "attribute_exists(#id)", {})\n'
        '        tasks()._write(task["id"], update)\n',
    ),
    "repeated dispatch fails the task": Change(
        lambda_function, "dispatch", "if not is_new:", "if False:"
    ),
    "failed dispatch told though not written": Change(
        lambda_function,
        "_fail_dispatch",
        "        return task\n",
        '        failure = {"status": "error", "error_code": DISPATCH_FAILED}\n'
        '        return task | failure | {"error_message": message}\n',
    ),
    "follow-up and its link written one after the other": Change(
        Store,
        "follow_task",
        "self._send(self.client.transact_write_items, TransactItems=writes)",
        '(self._send(self.client.put_item, **writes[0]["Put"]), '
        'self._send(self.client.update_item, **writes[1]["Update"]))',
    ),
    "follow-up in a session that is stopped": Change(
        conversations, "_open_session", 'if earlier.get("session_open")', "if True"
    ),
    "session that was to be stopped handed on": Change(
        conversations, "_open_session", '"cancel_requested_at" not in unstarted', "True"
    ),
    "stop after a question": Change(
        worker_lambda, "_ends_session", " and not result.interrupts", ""
    ),
    "message dropped after an error": Change(
        watcher_lambda, "is_handled", "return is_hopeless", "return True"
    ),
    "task looked at once": Change(watcher_lambda, "end_if_due", "return False", "return True"),
    "event that the bus did not take": Change(
        watcher_lambda, "tell", 'answer.get("FailedEntryCount")', "False"
    ),
    "changes behind a failed one lost": Change(
        watcher_lambda, "lambda_handler", "failures.append", "is_change or failures.append"
    ),
    "watcher that stops no session": Change(
        watcher_lambda, "end_if_due", "may_run_on(task)", "False"
    ),
}


@contextmanager
def mutated(name: str) -> Iterator[None]:
    """Puts a fault into the code; none if the name is empty."""
    if not name:
        yield
        return
    change = MUTATIONS[name]
    with mock.patch.object(change.owner, change.name, change.build()):
        yield
