"""Switching the watcher on for a living stack, off, on again; and for a table that is taken in."""

from typing import Any

import pytest

from tests.deployment.conftest import MakeStack
from tests.deployment.operators import Stack, make_table

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

    for arguments, count in ((["--alarm-topic-arn", TOPIC], 10), ([], 10)):
        stack.deploy("--task-events", *arguments)
        kind, arn = stream(stack)
        assert (kind, sources(stack)) == (BOTH, {arn, queue(stack)})
        pages = stack.client("cloudwatch").get_paginator("describe_alarms").paginate()
        names = [alarm["AlarmName"] for page in pages for alarm in page["MetricAlarms"]]
        assert len([name for name in names if name.startswith("switched-")]) == count
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


@pytest.mark.parametrize("is_living", [True, False])
def test_a_stream_of_another_kind_is_refused_in_a_sentence(make_stack: MakeStack, is_living: bool):
    stack = make_stack(f"other-kind-{is_living}".lower())
    if is_living:
        stack.deploy("--table-stream", "KEYS_ONLY")
        code, words = 2, f"TaskEvents need a stream of the table with {BOTH}, and TableStream is"
    else:
        specification = {"StreamEnabled": True, "StreamViewType": "KEYS_ONLY"}
        make_table(stack, f"{stack.prefix}-tasks", StreamSpecification=specification)
        code, words = 1, f"has a stream of another kind: KEYS_ONLY, not {BOTH}. Nothing was"
    before = stack.status()

    run = stack.run("--task-events")
    assert (run.code, stack.status(), stream(stack)[0]) == (code, before, "KEYS_ONLY")
    assert words in run.said
