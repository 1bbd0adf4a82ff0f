# mypy: ignore-errors
"""The least there can be: http.client and SigV4 by hmac, no SDK; lists as the project does.

It has no retries, no timeouts of its own, no conditions and no errors: it shows where the floor is,
not how to write an API.
"""

import hashlib
import hmac
import json
import os
import time
import uuid
from http.client import HTTPConnection, HTTPSConnection

REGION = os.environ["AWS_REGION"]
KEY_ID = os.environ["AWS_ACCESS_KEY_ID"]
SECRET = os.environ["AWS_SECRET_ACCESS_KEY"]
TABLE = os.environ.get("DYNAMODB_TABLE_NAME", "valro-tasks")

FIELDS = "id description status vendors quotes emails_sent events created_at updated_at".split()
LISTED = "error_message agent_response_truncated owner deadline event_seq chunks".split()

connections = {}


def lambda_handler(event, context):
    """Answers one HTTP request."""
    method = event["requestContext"]["http"]["method"]
    path = event["rawPath"]
    if method == "POST" and path == "/tasks":
        task_id = create(json.loads(event["body"])["description"])
        message = "Task created and processing started"
        return respond(202, {"id": task_id, "status": "pending", "message": message})
    if method == "GET" and path == "/tasks":
        return respond(200, [public(item, listed=True) for item in list_items()])
    item = get_item(path.split("/")[2])
    return respond(200, public(item)) if item else respond(404, {"error": "Task not found"})


def create(description):
    """Writes a task and starts its worker; returns its id."""
    now = time.strftime("%Y-%m-%dT%H:%M:%S.000000Z", time.gmtime())
    event = {"ts": {"S": now}, "message": {"S": "Task created"}, "type": {"S": "info"}}
    texts = {
        "id": str(uuid.uuid4()),
        "owner": "public",
        "description": description,
        "status": "pending",
        "vendors": "[]",
        "quotes": "[]",
        "created_at": now,
        "updated_at": now,
    }
    task_id = texts["id"]
    item = {name: {"S": text} for name, text in texts.items()} | {"events": {"L": [{"M": event}]}}
    dynamodb("PutItem", {"TableName": TABLE, "Item": item})
    payload = json.dumps({"task_id": task_id, "description": description, "created_at": now})
    arn = os.environ["WORKER_LAMBDA_ARN"].replace(":", "%3A")
    call(
        "lambda",
        f"/2015-03-31/functions/{arn}/invocations",
        payload,
        {"X-Amz-Invocation-Type": "Event"},
    )
    return task_id


def get_item(task_id):
    """Reads one task."""
    key = {"id": {"S": task_id}}
    return dynamodb("GetItem", {"TableName": TABLE, "Key": key, "ConsistentRead": True}).get("Item")


def list_items():
    """Reads the newest keys from the index, and the items."""
    keys = dynamodb(
        "Query",
        {
            "TableName": TABLE,
            "IndexName": "owner-created_at-index",
            "KeyConditionExpression": "#owner = :owner",
            "ExpressionAttributeNames": {"#owner": "owner"},
            "ExpressionAttributeValues": {":owner": {"S": "public"}},
            "ScanIndexForward": False,
            "Limit": 101,
        },
    )["Items"][:100]
    names = {f"#{name}": name for name in [*FIELDS, *LISTED]}
    request = {
        "Keys": [{"id": key["id"]} for key in keys],
        "ConsistentRead": True,
        "ProjectionExpression": ",".join(names),
        "ExpressionAttributeNames": names,
    }
    found = dynamodb("BatchGetItem", {"RequestItems": {TABLE: request}})["Responses"][TABLE]
    by_id = {item["id"]["S"]: item for item in found}
    return [by_id[key["id"]["S"]] for key in keys]


def dynamodb(operation, request):
    """Calls DynamoDB."""
    headers = {
        "Content-Type": "application/x-amz-json-1.0",
        "X-Amz-Target": f"DynamoDB_20120810.{operation}",
    }
    return json.loads(call("dynamodb", "/", json.dumps(request), headers))


def call(service, path, body, headers):
    """Signs a request, sends it, and returns the body of the answer."""
    url = os.environ[f"AWS_ENDPOINT_URL_{service.upper()}"]
    scheme, _, host = url.partition("://")
    if service not in connections:
        kind = HTTPSConnection if scheme == "https" else HTTPConnection
        connections[service] = kind(host, timeout=3)
    now = time.gmtime()
    signed = {
        "host": host,
        "x-amz-date": time.strftime("%Y%m%dT%H%M%SZ", now),
        "x-amz-security-token": os.environ["AWS_SESSION_TOKEN"],
    } | {name.lower(): value for name, value in headers.items()}
    names = ";".join(sorted(signed))
    canonical = "".join(f"{name}:{signed[name]}\n" for name in sorted(signed))
    digest = hashlib.sha256(body.encode()).hexdigest()
    text = "\n".join(["POST", path.replace("%", "%25"), "", canonical, names, digest])
    date = signed["x-amz-date"]
    scope = f"{date[:8]}/{REGION}/{service}/aws4_request"
    to_sign = "\n".join(
        ["AWS4-HMAC-SHA256", date, scope, hashlib.sha256(text.encode()).hexdigest()]
    )
    key = f"AWS4{SECRET}".encode()
    for part in (date[:8], REGION, service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    signature = hmac.digest(key, to_sign.encode(), "sha256").hex()
    signed["authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={KEY_ID}/{scope},SignedHeaders={names},Signature={signature}"
    )
    connection = connections[service]
    connection.request("POST", path, body, signed)
    return connection.getresponse().read()


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
