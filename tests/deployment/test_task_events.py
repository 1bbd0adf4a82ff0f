"""Switching the watcher on for a living stack, off, on again; and for a table that is taken in."""

from typing import Any

import pytest

from tests.deployment.conftest import MakeStack, Stack, make_table

pytestmark = pytest.mark.e2e

BOTH = "NEW_AND_OLD_IMAGES"
TOPIC = "arn:aws:sns:us-east-1:000000000000:alarms"


def sources(stack: Stack) -> set[str]:
    """Returns what feeds the watcher."""
    mappings = stack.client("lambda").list_event_source_mappings()["EventSourceMappings"]
    name = f":function:{stack.prefix}-watcher"
    return {each["EventSourceArn"] for each in mappings if each["FunctionArn"].endswith(name)}


def stream(stack: Stack) -> tuple[str, str]:
    """Returns the kind and the ARN of the table's stream, if there is one."""
    name = f"{stack.prefix}-tasks"
    table: dict[str, Any] = stack.client("dynamodb").describe_table(TableName=name)["Table"]
    specification = table.get("StreamSpecification") or {}
    is_on = specification.get("StreamEnabled")
    return (specification["StreamViewType"], table["LatestStreamArn"]) if is_on else ("", "")


def queue(stack: Stack) -> str:
    return f"arn:aws:sqs:us-east-1:000000000000:{stack.prefix}-watch"


def test_it_is_switched_on_for_a_living_stack_and_off_and_on_again(make_stack: MakeStack):
    stack = make_stack("switched")
    stack.deploy()
    assert (sources(stack), stream(stack)) == (set(), ("", ""))

    limits = ("--alarm-after-throttles", "9", "--alarm-after-failed-tasks", "8")
    for arguments in (["--alarm-topic-arn", TOPIC, *limits], []):
        stack.deploy("--task-events", *arguments)
        kind, arn = stream(stack)
        assert (kind, sources(stack)) == (BOTH, {arn, queue(stack)})
        pages = stack.client("cloudwatch").get_paginator("describe_alarms").paginate()
        alarms = {
            alarm["MetricName"]: alarm["Threshold"]
            for page in pages
            for alarm in page["MetricAlarms"]
            if alarm["AlarmName"].startswith("switched-")
        }
        assert len(alarms) == 10
        assert (alarms["Throttles"], alarms["TasksFailed"]) == (9, 8)
        assert "Nothing had to be changed." in stack.deploy().said

        stack.deploy("--task-events=false")
        assert (sources(stack), stream(stack)) == (set(), ("", ""))
        functions = stack.client("lambda").list_functions()["Functions"]
        assert "switched-watcher" not in {each["FunctionName"] for each in functions}


def test_a_table_that_is_taken_in_gets_its_stream_before_the_rest(make_stack: MakeStack):
    stack = make_stack("joined")
    make_table(stack, "joined-tasks")

    assert "It gets a stream, the index, time to live," in stack.deploy("--task-events").said
    kind, arn = stream(stack)
    assert (kind, sources(stack)) == (BOTH, {arn, queue(stack)})

    stack.destroy()
    assert stream(stack)[0] == BOTH
    assert f"TableStream {BOTH}" in stack.deploy("--task-events").said
    assert stream(stack)[1] in sources(stack)
