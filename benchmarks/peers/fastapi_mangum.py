# mypy: ignore-errors
"""The same API with FastAPI, adapted to Lambda by Mangum."""

from fastapi import FastAPI, HTTPException
from fastapi.middleware.cors import CORSMiddleware
from mangum import Mangum
from models import Accepted, NewTask, Task, WholeTask
from naive import create, list_tasks, public, table

app = FastAPI()
app.add_middleware(CORSMiddleware, allow_origins=["*"])


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
