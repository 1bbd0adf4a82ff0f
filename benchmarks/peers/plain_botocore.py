# mypy: ignore-errors
"""The same API with botocore's clients, made at import, and no boto3."""

import json
import os
from datetime import UTC, datetime

import botocore.session
from typed import new_item, route

session = botocore.session.get_session()
dynamodb = session.create_client("dynamodb")
lambda_client = session.create_client("lambda")
TABLE = os.environ.get("DYNAMODB_TABLE_NAME", "valro-tasks")


def lambda_handler(event, context):
    """Answers one HTTP request."""
    return route(event, create, get_item, list_items)


def create(description):
    """Writes a task and starts its worker; returns its id."""
    item = new_item(description, datetime.now(UTC).isoformat())
    task_id = item["id"]["S"]
    dynamodb.put_item(TableName=TABLE, Item=item)
    lambda_client.invoke(
        FunctionName=os.environ["WORKER_LAMBDA_ARN"],
        InvocationType="Event",
        Payload=json.dumps({"task_id": task_id, "description": description}),
    )
    return task_id


def get_item(task_id):
    """Reads one task."""
    return dynamodb.get_item(TableName=TABLE, Key={"id": {"S": task_id}}).get("Item")


def list_items():
    """Reads the whole table, newest first."""
    page = dynamodb.scan(TableName=TABLE)
    items = page["Items"]
    while "LastEvaluatedKey" in page:
        page = dynamodb.scan(TableName=TABLE, ExclusiveStartKey=page["LastEvaluatedKey"])
        items += page["Items"]
    return sorted(items, key=lambda item: item["created_at"]["S"], reverse=True)
