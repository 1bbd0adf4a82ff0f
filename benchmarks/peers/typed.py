# mypy: ignore-errors
"""What the APIs without boto3 share: the routes, and items in DynamoDB's own types."""

import json
import uuid

FIELDS = "id description status vendors quotes emails_sent events created_at updated_at".split()


def route(event, create, get_item, list_items):
    """Answers one HTTP request."""
    method = event["requestContext"]["http"]["method"]
    path = event["rawPath"]
    if method == "POST" and path == "/tasks":
        task_id = create(json.loads(event["body"])["description"])
        message = "Task created and processing started"
        return respond(202, {"id": task_id, "status": "pending", "message": message})
    if method == "GET" and path == "/tasks":
        return respond(200, [public(item, listed=True) for item in list_items()])
    if method == "GET" and path.startswith("/tasks/"):
        item = get_item(path.split("/")[2])
        return respond(200, public(item)) if item else respond(404, {"error": "Task not found"})
    return respond(404, {"error": "Not found"})


def new_item(description, now):
    """A pending task."""
    event = {"ts": {"S": now}, "message": {"S": "Task created"}, "type": {"S": "info"}}
    return {
        "id": {"S": str(uuid.uuid4())},
        "owner": {"S": "public"},
        "description": {"S": description},
        "status": {"S": "pending"},
        "vendors": {"S": "[]"},
        "quotes": {"S": "[]"},
        "events": {"L": [{"M": event}]},
        "created_at": {"S": now},
        "updated_at": {"S": now},
    }


def public(item, *, listed=False):
    """What a client may see."""
    task = {name: plain(item[name]) for name in FIELDS if name in item}
    for name in ("vendors", "quotes"):
        if name in task:
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
