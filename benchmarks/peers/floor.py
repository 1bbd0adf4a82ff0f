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
from http.client import HTTPConnection, HTTPSConnection

from typed import FIELDS, new_item, route

REGION = os.environ["AWS_REGION"]
KEY_ID = os.environ["AWS_ACCESS_KEY_ID"]
SECRET = os.environ["AWS_SECRET_ACCESS_KEY"]
TABLE = os.environ.get("DYNAMODB_TABLE_NAME", "valro-tasks")

LISTED = "error_message agent_response_truncated owner deadline event_seq chunks".split()

connections = {}


def lambda_handler(event, context):
    """Answers one HTTP request."""
    return route(event, create, get_item, list_items)


def create(description):
    """Writes a task and starts its worker; returns its id."""
    now = time.strftime("%Y-%m-%dT%H:%M:%S.000000Z", time.gmtime())
    item = new_item(description, now)
    task_id = item["id"]["S"]
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
        if scheme == "https":
            import ssl

            context = ssl.create_default_context()
            connections[service] = HTTPSConnection(host, context=context, timeout=3)
        else:
            connections[service] = HTTPConnection(host, timeout=3)
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
    response = connection.getresponse()
    return response.read()
