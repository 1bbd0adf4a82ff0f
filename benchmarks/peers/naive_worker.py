# mypy: ignore-errors
"""The worker as most people would begin it: boto3 at import, one write for each event."""

import json
import os
from datetime import UTC, datetime

import boto3
from botocore.config import Config

table = boto3.resource("dynamodb").Table(os.environ.get("DYNAMODB_TABLE_NAME", "valro-tasks"))
agent = boto3.client("bedrock-agentcore", config=Config(read_timeout=600))


def lambda_handler(event, context):
    """Runs one task."""
    task_id = event["task_id"]
    add_event(task_id, "Worker Lambda invoked - processing started")
    update(task_id, "processing")
    add_event(task_id, "Agent processing started")
    try:
        response = agent.invoke_agent_runtime(
            agentRuntimeArn=os.environ["AGENT_RUNTIME_ARN"],
            runtimeSessionId=f"session-{task_id}",
            payload=json.dumps({"prompt": event["description"], "task_id": task_id}),
        )
        answer = json.loads(response["response"].read())
        update(
            task_id,
            "completed",
            agent_response=answer["response"],
            vendors=json.dumps(answer["vendors"]),
            quotes=json.dumps(answer["quotes"]),
            emails_sent=answer["emails_sent"],
        )
        add_event(task_id, "Agent completed task successfully", "success")
    except Exception as error:
        update(task_id, "error", error_message=str(error))
        add_event(task_id, f"Agent error: {error}", "error")
        raise
    return {"task_id": task_id, "outcome": "completed"}


def add_event(task_id, message, kind="info"):
    """Appends one line to the timeline."""
    now = datetime.now(UTC).isoformat()
    table.update_item(
        Key={"id": task_id},
        UpdateExpression="SET events = list_append(events, :events), updated_at = :now",
        ExpressionAttributeValues={
            ":events": [{"ts": now, "message": message, "type": kind}],
            ":now": now,
        },
    )


def update(task_id, status, **attributes):
    """Sets the status and what comes with it."""
    values = {"status": status, "updated_at": datetime.now(UTC).isoformat(), **attributes}
    table.update_item(
        Key={"id": task_id},
        UpdateExpression="SET " + ", ".join(f"#{name} = :{name}" for name in values),
        ExpressionAttributeNames={f"#{name}": name for name in values},
        ExpressionAttributeValues={f":{name}": value for name, value in values.items()},
    )
