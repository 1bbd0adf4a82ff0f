"""A store on moto's table, and a network between them that loses what a test says."""

from collections.abc import Callable
from typing import Any

from botocore.exceptions import ClientError, ReadTimeoutError

from dynamodb_helpers import Claim, TaskStore
from valro.tasks import PUBLIC_OWNER, Outcome, Report

NOW = 1_761_912_000.0
ANSWER: dict[str, Any] = {
    "agent_response": "I've contacted 3 landscaping vendors",
    "vendors": [{"name": "Queen City Lawns", "price": 275.5, "emails": []}],
    "quotes": [{"vendor": "Queen City Lawns", "amount": 275.5}],
    "emails_sent": 3,
}
LONG = {"agent_response": "x" * 400_000}
BEGUN = [
    "Task created",
    "Worker Lambda invoked - processing started",
    "Agent processing started",
]
COMPLETED = [*BEGUN, "Agent completed task successfully"]


class Clock:
    """Epoch seconds that only a test moves."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


class Network:
    """A DynamoDB client on a network that can lose an answer, resend a request, or let others in.

    Each plan is for one operation's next call only; ``always`` is for every other one.
    """

    def __init__(self, client: Any) -> None:
        self.client = client
        self.plans: dict[str, list[Callable[..., Any]]] = {}
        self.always: dict[str, Callable[..., Any]] = {}
        self.writes: list[str] = []

    def __getattr__(self, operation: str) -> Callable[..., Any]:
        real = getattr(self.client, operation)

        def call(**request: Any) -> Any:
            if operation in ("put_item", "update_item", "transact_write_items"):
                self.writes.append(operation)
            plans = self.plans.get(operation)
            happening = plans.pop(0) if plans else self.always.get(operation, arrives)
            return happening(real, request)

        return call

    def plan(self, operation: str, happening: Callable[..., Any]) -> None:
        self.plans.setdefault(operation, []).append(happening)


def arrives(real: Callable[..., Any], request: dict[str, Any]) -> Any:
    """Nothing happens to this one."""
    return real(**request)


def answer_lost(real: Callable[..., Any], request: dict[str, Any]) -> Any:
    """DynamoDB does the write; the caller never learns."""
    real(**request)
    raise ReadTimeoutError(endpoint_url="https://dynamodb")


def request_lost(_real: Callable[..., Any], _request: dict[str, Any]) -> Any:
    """The request never arrives."""
    raise ReadTimeoutError(endpoint_url="https://dynamodb")


def resent(real: Callable[..., Any], request: dict[str, Any]) -> Any:
    """The answer is lost, and botocore sends the same request again."""
    real(**request)
    return real(**request)


def refused(
    code: str, reason: str = "", message: str = "", status: int = 400
) -> Callable[..., Any]:
    """DynamoDB says no, and ``reason`` if that cancels a transaction."""

    def happening(_real: Callable[..., Any], request: dict[str, Any]) -> Any:
        error: dict[str, Any] = {"Error": {"Code": code, "Message": message}}
        if reason and "TransactItems" in request:
            error = {"Error": {"Code": "TransactionCanceledException"}}
            error["CancellationReasons"] = [{"Code": reason}, {"Code": reason}]
        metadata: Any = {"ResponseMetadata": {"HTTPStatusCode": status}}
        raise ClientError(error | metadata, "AnyOperation")

    return happening


throttled = refused("ThrottlingException", message="Slow down")
too_large = refused("ValidationException", "ValidationError", "Item size has exceeded the maximum")
# Another transaction is at the item just then.
conflict = refused("TransactionConflictException", "TransactionConflict")


def after(action: Callable[[], Any]) -> Callable[..., Any]:
    """Somebody else is faster: ``action`` happens just before the request arrives."""

    def happening(real: Callable[..., Any], request: dict[str, Any]) -> Any:
        action()
        return real(**request)

    return happening


def create(store: TaskStore, task_id: str = "task-1", owner: str = PUBLIC_OWNER) -> dict[str, Any]:
    task, _ = store.create_task(task_id, "Find me a painter", owner)
    return task


def claimed(store: TaskStore, task_id: str = "task-1") -> Claim:
    """A task that one worker has just claimed, with ten minutes left to run."""
    create(store, task_id)
    return store.claim_task(task_id, f"token-of-{task_id}", store.clock() + 600)


def stored(store: TaskStore, task_id: str = "task-1") -> dict[str, Any]:
    """What the table holds, as DynamoDB types."""
    client = store.client.client
    item: dict[str, Any] = client.get_item(
        TableName=store.table_name, Key={"id": {"S": task_id}}
    ).get("Item", {})
    return item


def everything(store: TaskStore) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = store.client.client.scan(TableName=store.table_name)["Items"]
    return items


def seen(store: TaskStore, task_id: str = "task-1") -> dict[str, Any]:
    """What a reader gets, answer and all."""
    return store.with_answer(store.get_task(task_id, PUBLIC_OWNER))


def messages(task: dict[str, Any]) -> list[str]:
    return [event["message"] for event in task["events"]]


def runs_forward(task: dict[str, Any]) -> bool:
    times = [event["ts"] for event in task["events"]]
    return times == sorted(times) and task["created_at"] <= times[0] <= task["updated_at"]


def accepted(store: TaskStore) -> Claim:
    """A task whose agent has said that it works on and reports."""
    claim = claimed(store)
    store.accept_task(claim)
    return claim


def reported(
    store: TaskStore, report_id: str, *lines: str, outcome: Outcome | None = None
) -> dict[str, Any]:
    """What a task is after a report as the API takes it: read, then judged."""
    return store.report(store.find_task("task-1"), Report(report_id, lines, outcome))


def cancelled(store: TaskStore) -> dict[str, Any]:
    return store.cancel_task("task-1", PUBLIC_OWNER)


# --- conversations --------------------------------------------------------------------------------

ANN = "jwt#ann"
ASKS = [{"id": "i-1", "message": "Book Lone Brush for $390?"}]
QUESTIONS = [{"id": "i-1", "message": "Which?"}, {"id": "i-2", "response_schema": {"enum": [1]}}]


def ended(
    store: TaskStore, task_id: str = "task-1", error_code: str = "", **answer: Any
) -> dict[str, Any]:
    """A task of Ann's whose agent has run."""
    store.create_task(task_id, "Find me a painter", ANN, "f")
    claim = store.claim_task(task_id, "token", store.clock() + 600)
    answer = {"agent_response": "I found two."} | answer
    message = "The agent was lost." if error_code else ""
    store.end_task(claim, Outcome.of(answer, error_code, message))
    return store.get_task(task_id, ANN)


def asking(store: TaskStore) -> dict[str, Any]:
    return ended(store, interrupts=ASKS)


def follow(
    store: TaskStore, task_id: str = "task-2", follows: str = "task-1", **options: Any
) -> tuple[dict[str, Any], bool]:
    options = {"description": "Book the second", "owner": ANN, "fingerprint": "g"} | options
    _, created = store.follow_task(task_id, follows=follows, **options)
    return store.get_task(task_id, ANN), created
