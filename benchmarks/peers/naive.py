# mypy: ignore-errors
"""The way most people begin: boto3's resource, made at import, and a plain handler."""

import json
import os
import uuid
from datetime import UTC, datetime
from decimal import Decimal

import boto3

table = boto3.resource("dynamodb").Table(os.environ.get("DYNAMODB_TABLE_NAME", "valro-tasks"))
lambda_client = boto3.client("lambda")

FIELDS = "id description status vendors quotes emails_sent events created_at updated_at".split()


def lambda_handler(event, context):
    """Answers one HTTP request."""
    method = event["requestContext"]["http"]["method"]
    path = event["rawPath"]
    if method == "POST" and path == "/tasks":
        return respond(202, create(json.loads(event["body"])["description"]))
    if method == "GET" and path == "/tasks":
        return respond(200, list_tasks())
    if method == "GET" and path.startswith("/tasks/"):
        item = table.get_item(Key={"id": path.split("/")[2]}).get("Item")
        return respond(200, public(item)) if item else respond(404, {"error": "Task not found"})
    return respond(404, {"error": "Not found"})


def create(description):
    """Writes a task and starts its worker."""
    now = datetime.now(UTC).isoformat()
    task = {
        "id": str(uuid.uuid4()),
        "owner": "public",
        "description": description,
        "status": "pending",
        "vendors": "[]",
        "quotes": "[]",
        "events": [{"ts": now, "message": "Task created", "type": "info"}],
        "created_at": now,
        "updated_at": now,
    }
    table.put_item(Item=task)
    lambda_client.invoke(
        FunctionName=os.environ["WORKER_LAMBDA_ARN"],
        InvocationType="Event",
        Payload=json.dumps({"task_id": task["id"], "description": description}),
    )
    message = "Task created and processing started"
    return {"id": task["id"], "status": "pending", "message": message}


def list_tasks():
    """Reads the whole table, newest first."""
    page = table.scan()
    items = page["Items"]
    while "LastEvaluatedKey" in page:
        page = table.scan(ExclusiveStartKey=page["LastEvaluatedKey"])
        items += page["Items"]
    items.sort(key=lambda item: item["created_at"], reverse=True)
    return [public(item, listed=True) for item in items]


def public(item, *, listed=False):
    """What a client may see."""
    task = {name: item[name] for name in FIELDS if name in item}
    for name in ("vendors", "quotes"):
        if isinstance(task.get(name), str):
            task[name] = json.loads(task[name])
    if "agent_response" in item and not listed:
        task["agent_response"] = item["agent_response"]
    return task


def plain(value):
    """Numbers for json.dumps."""
    if isinstance(value, Decimal):
        return int(value) if value % 1 == 0 else float(value)
    raise TypeError(type(value))


def respond(status, body):
    """A response with CORS."""
    return {
        "statusCode": status,
        "headers": {"Content-Type": "application/json", "Access-Control-Allow-Origin": "*"},
        "body": json.dumps(body, default=plain),
    }
