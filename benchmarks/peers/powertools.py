# mypy: ignore-errors
"""The same API with Powertools' resolver for HTTP APIs."""

import json

from aws_lambda_powertools.event_handler import APIGatewayHttpResolver, CORSConfig, Response
from aws_lambda_powertools.event_handler.exceptions import NotFoundError
from naive import create, list_tasks, plain, public, table

app = APIGatewayHttpResolver(
    cors=CORSConfig(), serializer=lambda value: json.dumps(value, default=plain)
)


@app.post("/tasks")
def post_task():
    """Creates a task."""
    task = create(app.current_event.json_body["description"])
    return Response(202, "application/json", json.dumps(task))


@app.get("/tasks")
def get_tasks():
    """Lists tasks."""
    return list_tasks()


@app.get("/tasks/<task_id>")
def get_task(task_id: str):
    """Shows one task."""
    item = table.get_item(Key={"id": task_id}).get("Item")
    if not item:
        raise NotFoundError("Task not found")
    return public(item)


def lambda_handler(event, context):
    """Answers one HTTP request."""
    return app.resolve(event, context)
