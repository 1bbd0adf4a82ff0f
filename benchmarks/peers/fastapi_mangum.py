# mypy: ignore-errors
"""The same API with FastAPI, adapted to Lambda by Mangum."""

from typing import Any

from fastapi import FastAPI, HTTPException
from fastapi.middleware.cors import CORSMiddleware
from mangum import Mangum
from naive import create, list_tasks, public, table
from pydantic import BaseModel

app = FastAPI()
app.add_middleware(CORSMiddleware, allow_origins=["*"])


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


@app.post("/tasks", status_code=202)
def post_task(task: NewTask) -> Accepted:
    """Creates a task."""
    return create(task.description)


@app.get("/tasks")
def get_tasks() -> list[Task]:
    """Lists tasks."""
    return list_tasks()


@app.get("/tasks/{task_id}")
def get_task(task_id: str) -> WholeTask:
    """Shows one task."""
    item = table.get_item(Key={"id": task_id}).get("Item")
    if not item:
        raise HTTPException(404, "Task not found")
    return public(item)


lambda_handler = Mangum(app, lifespan="off")
