# mypy: ignore-errors
"""The same API with Powertools' resolver and its validation by pydantic models."""

from typing import Any

from aws_lambda_powertools.event_handler import APIGatewayHttpResolver, CORSConfig, Response
from aws_lambda_powertools.event_handler.exceptions import NotFoundError
from naive import create, list_tasks, public, table
from pydantic import BaseModel

app = APIGatewayHttpResolver(cors=CORSConfig(), enable_validation=True)


class NewTask(BaseModel):
    """A POST's body."""

    description: str


class Accepted(BaseModel):
    """A POST's answer."""

    id: str
    status: str
    message: str


class Event(BaseModel):
    """One line of a timeline."""

    ts: str
    message: str
    type: str


class Task(BaseModel):
    """A task."""

    id: str
    description: str
    status: str
    vendors: list[dict[str, Any]] = []
    quotes: list[dict[str, Any]] = []
    emails_sent: int = 0
    events: list[Event]
    created_at: str
    updated_at: str


class WholeTask(Task):
    """A task with its answer."""

    agent_response: str | None = None


@app.post("/tasks")
def post_task(task: NewTask) -> Response[Accepted]:
    """Creates a task."""
    return Response(202, "application/json", Accepted(**create(task.description)))


@app.get("/tasks")
def get_tasks() -> list[Task]:
    """Lists tasks."""
    return [Task(**task) for task in list_tasks()]


@app.get("/tasks/<task_id>")
def get_task(task_id: str) -> WholeTask:
    """Shows one task."""
    item = table.get_item(Key={"id": task_id}).get("Item")
    if not item:
        raise NotFoundError("Task not found")
    return WholeTask(**public(item))


def lambda_handler(event, context):
    """Answers one HTTP request."""
    return app.resolve(event, context)
