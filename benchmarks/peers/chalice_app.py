# mypy: ignore-errors
"""The same API with Chalice; its events are a REST API's."""

import json

from chalice import Chalice, NotFoundError, Response
from naive import create, list_tasks, plain, public, table

app = Chalice(app_name="valro")


@app.route("/tasks", methods=["POST"], cors=True)
def post_task():
    """Creates a task."""
    return Response(create(app.current_request.json_body["description"]), status_code=202)


@app.route("/tasks", methods=["GET"], cors=True)
def get_tasks():
    """Lists tasks."""
    return Response(json.dumps(list_tasks(), default=plain), {"Content-Type": "application/json"})


@app.route("/tasks/{task_id}", methods=["GET"], cors=True)
def get_task(task_id):
    """Shows one task."""
    item = table.get_item(Key={"id": task_id}).get("Item")
    if not item:
        raise NotFoundError("Task not found")
    return Response(json.dumps(public(item), default=plain), {"Content-Type": "application/json"})


lambda_handler = app
