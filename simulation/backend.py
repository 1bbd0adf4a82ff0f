"""The backend under test: the real modules of both functions, put into a simulated world."""

import os
import random
import sys
import threading
import time
import traceback
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from types import SimpleNamespace
from typing import Any

import dynamodb_helpers
import lambda_function
import watcher_lambda
import worker_lambda
from simulation.agent import AGENT_ARN, Listening
from simulation.aws import WORKER_ARN, Aws, task_of
from simulation.checks import agent, writes
from simulation.checks.known import Known
from simulation.world import EPOCH, Json, Lock, Sandbox, Timer, Violation, World
from valro import api_requests, aws, conversations, dynamodb_items, tasks
from valro.agent import reader, runtime

SECONDS = {"api": 30.0, "watcher": 15.0}
WORKER_SECONDS = (600.0, 60.0, 900.0)
DEFAULT_SKEW = 5.0
REPORTS_BASE_URL = "https://api.invalid"

# Where the product's modules have what a world has something else for.
HANDLERS = ("dynamodb_helpers", "lambda_function", "watcher_lambda", "worker_lambda")
IMPORTS = [
    (module, name, value)
    for place, module in [*sys.modules.items()]
    if place in HANDLERS or place.startswith("valro.")
    for name, value in vars(module).items()
    if value in (os, random, threading, time, traceback, uuid)
]
LONG_ANSWER = 1_500  # characters, here

# So that small answers are long ones: to cut 4 MB again and again would take all the time there is.
SCALED_DOWN = {
    (conversations, "MAX_HISTORY_BYTES"): 1_000,
    (tasks, "MAX_AGENT_EVENTS"): 5,
    (tasks, "MIN_ANSWER_BYTES"): 100,
    (dynamodb_items, "MAX_INLINE_ANSWER_BYTES"): 1_500,
    (dynamodb_items, "CHUNK_CHARACTERS"): 1_000,
    (tasks, "MAX_ANSWER_BYTES"): 4_000,
    (tasks, "MAX_ANSWER_RESPONSE_BYTES"): 9_000,
    (reader, "MAX_BYTES"): 40_000,
    (lambda_function, "MAX_PAGE_BYTES"): 3_000,
    (api_requests, "MAX_REPORT_BYTES"): 20_000,
}


class Backend:
    """Both functions, their AWS, and those who check them."""

    def __init__(self, world: World, skew: float) -> None:
        choices = world.choices
        self.world = world
        self.known = known = Known(world, skew)
        if skew:
            world.skews = choices.pick(((0.0,), (0.0, -skew, skew, -skew / 2, skew / 2)))
        self.worker_seconds = choices.pick(WORKER_SECONDS)
        self.fitting_seconds = choices.pick((0.0, 0.0, 2.0, 8.0))
        self.reply_loss = choices.pick((0, 0, 150))
        self.aws = aws = Aws(world, self.run_worker)
        known.aws = aws
        aws.table.on_write = lambda old, new: writes.wrote(known, old, new, aws.writer, aws.sent)
        aws.agent.started = partial(agent.started, known)
        aws.agent.stopped = partial(agent.stopped, known)
        if choices.below(8) == 7:
            # An answer that is long and late, and a DynamoDB that has no time for it.
            self.fitting_seconds = choices.pick((8.0, 0.0))
            self.aws.dynamodb_weather.fall_silent()
            self.aws.agent.answer_at_last()
        # Less than a worker keeps back for what comes after the agent.
        self.fitting_seconds = min(self.fitting_seconds, 0.15 * self.worker_seconds)
        self.known.fitting_seconds = self.fitting_seconds
        self.environment = {
            "AWS_REGION": "us-east-1",
            "WORKER_LAMBDA_ARN": WORKER_ARN,
            "AGENT_RUNTIME_ARN": AGENT_ARN,
        }
        if choices.below(4) == 3:
            self.environment["STOP_SESSION_AFTER_TASK"] = "true"
            self.known.stops_sessions = True
        if choices.below(2):
            self.environment["REPORTS_BASE_URL"] = REPORTS_BASE_URL
        if choices.below(4) < 3:
            self.environment["PUBLIC_CANCEL_AND_DELETE"] = "true"
        if choices.below(30) == 29:
            world.count("worker: misconfigured")
            self.known.is_misconfigured = True
            del self.environment["AGENT_RUNTIME_ARN"]

    def new_sandbox(self, function: str, request_id: str) -> Sandbox:
        """A sandbox for one invocation."""
        seconds = SECONDS.get(function, self.worker_seconds)
        return Sandbox(function, self.world.unique(function), request_id, seconds)

    def context(self, sandbox: Sandbox) -> Any:
        """Lambda's context object."""
        left = lambda: int((sandbox.end - self.world.now) * 1000)  # noqa: E731
        return SimpleNamespace(aws_request_id=sandbox.request_id, get_remaining_time_in_millis=left)

    def run(self, sandbox: Sandbox, function: Callable[..., Any], event: Json) -> Json:
        """Runs a function that never raises; returns what it does, if it lives so long."""

        def handler() -> Any:
            try:
                return function(event, self.context(sandbox))
            except Exception as error:
                raise Violation(f"the {sandbox.function} never raises", repr(error)) from error

        return self.world.run_sandbox(sandbox, handler)

    def run_worker(self, event: Json, request_id: str) -> Json:
        """Runs the worker on an event; returns its result, if there is one."""
        sandbox = self.new_sandbox("worker", request_id)
        sandbox.task_id = task_of(event)

        def handler() -> Any:
            try:
                result = worker_lambda.lambda_handler(event, self.context(sandbox))
            except Exception as error:  # noqa: BLE001  Lambda's part: to deliver again
                agent.raised(self.known, event, sandbox, error)
                self.world.count("worker: raised")
                return None
            agent.done(self.known, event, result, sandbox)
            return result

        self.world.trace(f"starts for {task_of(event)}, {request_id}", sandbox.name)
        return self.world.run_sandbox(sandbox, handler)

    def clock(self) -> float:
        """The time, as the function that asks has it."""
        sandbox = self.world.sandbox
        return EPOCH + self.world.now + (sandbox.skew if sandbox else 0.0)


@contextmanager
def in_place_of_aws(backend: Backend) -> Iterator[None]:
    """Puts the world where the modules have AWS, the clock, chance, threads and the log."""
    world = backend.world
    pick = world.choices.pick

    def uuid4() -> uuid.UUID:
        return uuid.UUID(int=next(world.ids) << 80 | 0x4000_8000_0000_0000_0000)

    chance = SimpleNamespace(uniform=lambda low, high: low + (high - low) * pick((0.5, 0.0, 1.0)))
    # In every module of the product that has imported them, so that none is forgotten.
    stand_ins: dict[Any, Any] = {
        os: SimpleNamespace(environ=backend.environment),
        random: chance,
        threading: SimpleNamespace(Lock=partial(Lock, world)),
        time: SimpleNamespace(time=backend.clock),
        # A stack would take longer to format than all the rest, and says nothing new here.
        traceback: SimpleNamespace(format_exc=lambda: repr(sys.exc_info()[1])),
        uuid: SimpleNamespace(uuid4=uuid4, uuid5=uuid.uuid5, UUID=uuid.UUID),
    }
    timed: dict[str, Any] = {"clock": backend.clock, "sleep": world.sleep}
    stderr = SimpleNamespace(write=world.log, flush=lambda: None)
    fit_answer, end_task = tasks.fit_answer, dynamodb_helpers.TaskStore.end_task

    def fit(answer: Json, room: int = 0) -> Any:
        """Fits an answer, and takes the time that a long one takes of the processor."""
        if len(answer.get("agent_response", "")) > LONG_ANSWER and backend.fitting_seconds:
            world.count("worker: fitting takes long")
            world.sleep(backend.fitting_seconds)
        return fit_answer(answer, room)

    def end(store: Any, claim: Any, outcome: Any) -> None:
        """Ends a task, and takes note of when its worker begins to write that."""
        if world.sandbox:
            world.sandbox.ending_since = world.now
        end_task(store, claim, outcome)

    places = (
        SCALED_DOWN
        | {(module, name): stand_ins[value] for module, name, value in IMPORTS}
        | {
            (tasks, "fit_answer"): fit,
            (dynamodb_helpers.TaskStore, "end_task"): end,
            (aws, "aws_session"): lambda: backend.aws,
            (aws, "sys"): SimpleNamespace(stderr=stderr),
            (dynamodb_helpers, "TaskStore"): partial(dynamodb_helpers.TaskStore, **timed),
            (worker_lambda, "AgentRuntime"): partial(
                runtime.AgentRuntime,
                monotonic=lambda: world.now,
                sleep=world.sleep,
                jitter=lambda: pick((0.5, 0.0, 1.0)),
                background=partial(Listening, world),
            ),
            (worker_lambda, "TaskRun"): partial(
                worker_lambda.TaskRun,
                **timed,
                monotonic=lambda: world.now,
                timer=partial(Timer, world),
            ),
            (worker_lambda, "aws_session"): lambda: backend.aws,
            # A process of its own, whose store is not the API's.
            (watcher_lambda, "task_store"): cache(dynamodb_helpers.task_store.__wrapped__),
        }
    )
    caches = (
        dynamodb_helpers.task_store,
        aws.lambda_client,
        lambda_function.tasks,
        watcher_lambda.queue_client,
        watcher_lambda.bus_client,
        worker_lambda.agent_runtime,
    )
    before = {(module, name): getattr(module, name) for module, name in places}

    def put(values: dict[Any, Any]) -> None:
        for (module, name), value in values.items():
            setattr(module, name, value)
        for cached in caches:
            cached.cache_clear()

    put(places)
    try:
        yield
    finally:
        put(before)
