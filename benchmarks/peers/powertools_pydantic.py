# mypy: ignore-errors
"""The same API with Powertools' resolver and its validation by pydantic models."""

from aws_lambda_powertools.event_handler import APIGatewayHttpResolver, CORSConfig, Response
from aws_lambda_powertools.event_handler.exceptions import NotFoundError
from models import Accepted, NewTask, Task, WholeTask
from naive import create, list_tasks, public, table

app = APIGatewayHttpResolver(cors=CORSConfig(), enable_validation=True)


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
