# mypy: ignore-errors
"""The same API with botocore's clients, made at import, and no boto3."""

import json
import os
import uuid
from datetime import UTC, datetime

import botocore.session

session = botocore.session.get_session()
dynamodb = session.create_client("dynamodb")
lambda_client = session.create_client("lambda")
TABLE = os.environ.get("DYNAMODB_TABLE_NAME", "valro-tasks")

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
        key = {"id": {"S": path.split("/")[2]}}
        item = dynamodb.get_item(TableName=TABLE, Key=key).get("Item")
        return respond(200, public(item)) if item else respond(404, {"error": "Task not found"})
    return respond(404, {"error": "Not found"})


def create(description):
    """Writes a task and starts its worker."""
    now = datetime.now(UTC).isoformat()
    event = {"ts": {"S": now}, "message": {"S": "Task created"}, "type": {"S": "info"}}
    task_id = str(uuid.uuid4())
    item = {
        "id": {"S": task_id},
        "owner": {"S": "public"},
        "description": {"S": description},
        "status": {"S": "pending"},
        "vendors": {"S": "[]"},
        "quotes": {"S": "[]"},
        "events": {"L": [{"M": event}]},
        "created_at": {"S": now},
        "updated_at": {"S": now},
    }
    dynamodb.put_item(TableName=TABLE, Item=item)
    lambda_client.invoke(
        FunctionName=os.environ["WORKER_LAMBDA_ARN"],
        InvocationType="Event",
        Payload=json.dumps({"task_id": task_id, "description": description}),
    )
    message = "Task created and processing started"
    return {"id": task_id, "status": "pending", "message": message}


def list_tasks():
    """Reads the whole table, newest first."""
    page = dynamodb.scan(TableName=TABLE)
    items = page["Items"]
    while "LastEvaluatedKey" in page:
        page = dynamodb.scan(TableName=TABLE, ExclusiveStartKey=page["LastEvaluatedKey"])
        items += page["Items"]
    items.sort(key=lambda item: item["created_at"]["S"], reverse=True)
    return [public(item, listed=True) for item in items]


def public(item, *, listed=False):
    """What a client may see."""
    task = {name: plain(item[name]) for name in FIELDS if name in item}
    for name in ("vendors", "quotes"):
        if isinstance(task.get(name), str):
            task[name] = json.loads(task[name])
    if "agent_response" in item and not listed:
        task["agent_response"] = item["agent_response"]["S"]
    return task


def plain(value):
    """A value without DynamoDB's types."""
    ((kind, content),) = value.items()
    if kind == "N":
        return int(content)
    if kind == "L":
        return [plain(element) for element in content]
    if kind == "M":
        return {name: plain(element) for name, element in content.items()}
    return content


def respond(status, body):
    """A response with CORS."""
    return {
        "statusCode": status,
        "headers": {"Content-Type": "application/json", "Access-Control-Allow-Origin": "*"},
        "body": json.dumps(body),
    }
