"""The watcher as one more reader: the table's stream, the queue and the bus, with their faults.

In a schedule that has it every task ends within 2 minutes of its deadline, whoever reads it, and each
end is told. What hinders the watcher makes that later: counted from the last time that it was hindered.
"""

import json
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from typing import Any

import watcher_lambda
from simulation import wire
from simulation.backend import Backend
from simulation.checks.known import FINAL, must
from simulation.dynamodb import Item
from simulation.network import CALL_FAULTS, Client, Fault, Weather
from simulation.world import Json

LOOK_SECONDS = 90.0  # the queue's delay and its visibility timeout, as in template.yaml
LATEST = 120.0  # after its deadline a task has ended
LAGS = (0.2, 0.05, 1.0, 30.0, 600.0, 3_600.0)
ON_TIME_SECONDS = 2.0  # a delivery within this delays no task
MOST_AT_ONCE = (10, 1, 2)


class Watching:
    """One shard of the table's stream, a standard queue, and a bus on which everything is heard."""

    def __init__(self, backend: Backend) -> None:
        world = backend.world
        choices = world.choices
        # An agent that reports for 8 h is looked at every 90 s, and as often again for each message
        # that says the same.
        world.most_steps *= 3
        self.backend = backend
        self.world = world
        self.known = backend.known
        self.weather = Weather(world, "lambda", CALL_FAULTS, (0, 200, 600))
        self.lags = choices.pick(((0.2,), LAGS[:3], LAGS))
        self.repeats = choices.pick((0, 0, 200))  # of a thousand deliveries
        self.untaken = choices.pick((0, 0, 300))  # of a thousand events
        self.changes: list[Json] = []
        self.next_read = 0.0
        self.told: defaultdict[str, list[Json]] = defaultdict(list)
        self.hindered: defaultdict[str, float] = defaultdict(float)  # when last, by task
        backend.environment["WATCH_QUEUE_URL"] = "https://sqs.invalid/valro-watch"
        write = backend.aws.table.on_write

        def written(old: Item | None, new: Item) -> None:
            write(old, new)
            self._changed(old, new)

        backend.aws.table.on_write = written
        backend.aws.clients |= dict.fromkeys(("sqs", "events"), WatcherClient)
        backend.aws.watching = self

    # --- the stream -------------------------------------------------------------------------------

    def _changed(self, old: Item | None, new: Item) -> None:
        """Takes a change of the table, if the filters let it through."""
        status = new.get("status", {}).get("S")
        was = (old or {}).get("status", {}).get("S")
        if status == "pending" or (status in FINAL and was not in (None, *FINAL)):
            number, keys = f"{next(self.world.ids)}", {"id": new["id"]}
            change = {"SequenceNumber": number, "Keys": keys, "NewImage": new}
            self.changes.append({"eventSource": "aws:dynamodb", "dynamodb": change})
            if len(self.changes) == 1:  # else the shard is being read
                self.world.spawn("shard", self._read, delay=self._lag())
            self._excuse_all(self.next_read)

    def _lag(self) -> float:
        """When the shard is read next, if nothing failed."""
        lag = self.world.choices.pick(self.lags)
        if lag > ON_TIME_SECONDS:
            self.world.count("stream: late")
        self.next_read = self.world.now + lag
        self._excuse_all(self.next_read)
        return lag

    def _read(self) -> None:
        """Brings the oldest changes, in their order, until all are handled."""
        most = retries = 0
        while self.changes:
            batch = self.changes[: most or self.world.choices.pick(MOST_AT_ONCE)]
            result = self._run(batch)
            numbers = [change["dynamodb"]["SequenceNumber"] for change in batch]
            failures = result["batchItemFailures"] if result else ()
            handled = 0 if result is None else len(batch)
            handled = numbers.index(failures[0]["itemIdentifier"]) if failures else handled
            if handled and self._repeats():
                handled = 0
            del self.changes[:handled]
            if result is None or failures:
                most = max(len(batch) // 2, 1) if result is None else 0
                pause = min(2.0**retries, 60.0)
                retries += 1
                self.next_read = self.world.now + pause
                self._excuse_all(self.next_read + ON_TIME_SECONDS)
                self.world.sleep(pause)
            elif self.changes:
                most = retries = 0
                self.world.sleep(self._lag())

    # --- the queue --------------------------------------------------------------------------------

    def take_message(self, body: str) -> None:
        """Takes a message, which is brought when its delay is over, or twice, or late."""
        task_id = json.loads(body)["task_id"]
        for _ in range(2 if self._repeats() else 1):
            lag = self.world.choices.pick(self.lags)
            if lag > ON_TIME_SECONDS:
                self.world.count("timer: late")
                self._excuse_task(task_id, self.world.now + LOOK_SECONDS + lag)
            bring = partial(self._deliver, body, task_id)
            self.world.spawn("message", bring, delay=LOOK_SECONDS + lag)

    def _deliver(self, body: str, task_id: str) -> None:
        while True:
            result = self._run([{"messageId": "m", "body": body}])
            if result is None:
                self._excuse_task(task_id, self.world.now)
            elif not result["batchItemFailures"] and not self._repeats():
                return
            self.world.sleep(LOOK_SECONDS)

    def take_event(self, event: Json) -> Json:
        """Takes an event for the bus, or says that it did not."""
        if self.world.choices.chance(self.untaken):
            self.world.count("bus: event not taken")
            return {"FailedEntryCount": 1, "Entries": [{"ErrorCode": "InternalFailure"}]}
        detail = json.loads(event["Detail"])
        self.told[detail["id"]].append(detail)
        return {"FailedEntryCount": 0, "Entries": [{"EventId": "1"}]}

    # --- both -------------------------------------------------------------------------------------

    def _repeats(self) -> bool:
        if self.world.choices.chance(self.repeats):
            self.world.count("watcher: brought again")
            return True
        return False

    def _excuse_all(self, until: float) -> None:
        """Takes note that no change is brought before."""
        for change in self.changes if until > self.world.now + ON_TIME_SECONDS else ():
            self._excuse_task(change["dynamodb"]["Keys"]["id"]["S"], until)

    def _excuse_task(self, task_id: str, until: float) -> None:
        self.hindered[task_id] = max(self.hindered[task_id], until)

    def _run(self, records: list[Json]) -> Json:
        """Runs the function, which may die."""
        sandbox = self.backend.new_sandbox("watcher", "records")
        event = {"Records": records}
        result = self.backend.run(sandbox, watcher_lambda.lambda_handler, event)
        for record in records if sandbox.faults or result is None else ():
            is_change = "dynamodb" in record
            told = record["dynamodb"]["Keys"] if is_change else json.loads(record["body"])
            self._excuse_task(told["id"]["S"] if is_change else told["task_id"], self.world.now)
        return result

    # --- the promise ------------------------------------------------------------------------------

    def over(self) -> None:
        """Every task has ended, though nobody may have read it, and in time; each end was told."""
        for task_id, life in self.known.lives.items():
            if life.is_deleted:
                continue
            must("a watched task ends, whoever reads it", bool(life.ended), task_id)
            latest = max(life.due, self.hindered[task_id]) + LATEST + self.known.tolerance
            assert life.ended_at is not None
            late = f"{task_id}: {life.ended_at - latest:.0f} s late"
            must("a watched task ends in time", life.ended_at <= latest, late)
            told = self.told[task_id]
            must("each end is told", bool(told), task_id)
            codes = {(detail["status"], detail.get("error_code", "")) for detail in told}
            must("what is told is so", codes == {(life.ended, life.error_code)}, f"{told}")


class WatcherClient(Client):
    """botocore's clients of SQS and of EventBridge, which meet what can befall one of Lambda's."""

    def send_message(self, **request: Any) -> Json:
        """Sends a message to the queue."""
        watching = self.aws.watching
        assert request["QueueUrl"] == watching.backend.environment["WATCH_QUEUE_URL"]
        return self._call(lambda _fault: watching.take_message(request["MessageBody"]))

    def put_events(self, **request: Any) -> Json:
        """Sends an event to the bus."""
        (event,) = request["Entries"]
        return self._call(lambda _fault: self.aws.watching.take_event(event))

    def _call(self, serve: Callable[[Fault], Json]) -> Json:
        def spoil(fault: Fault, answer: Json) -> Json:
            if fault.row and "while" in fault.row:
                raise wire.error(fault.row)
            if fault.name == "garbled":
                raise ValueError("no JSON")
            return answer

        return self.aws.watching.weather.call(self.config, "Invoke", serve, spoil)
