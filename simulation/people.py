"""Those who use the backend: they post, poll, list, cancel, delete, and call the worker by hand."""

from __future__ import annotations

from functools import partial
from urllib.parse import urljoin

from simulation.backend import Backend
from simulation.callers import Caller
from simulation.checks import answers
from simulation.checks.known import Reply
from simulation.world import Json, Violation

OWNERS = (None, "ann", "bob")
KEYS = (None, "key-1", "key-2")
DESCRIPTIONS = (*("Find a painter", "Find a plumber") * 3, "Find a gardener" + 300 * "\x7f")
STARTS = (0.0, 0.001, 0.02, 1.0, 31.0, 130.0, 955.0)
BEFORE_POSTING_AGAIN = (0.1, 2.0, 45.0)
SETTLED = (202, 410, 422, 502)  # a task that is made, or never will be
BETWEEN_POLLS = (2.0, 0.05, 0.5, 10.0, 60.0, 300.0)
AROUND_A_DEADLINE = (1.0, -2.0, -0.01, 0.01, 6.0, -61.0, -80.0)
# From a task's creation on, or from the worker's claim.
BEFORE_CANCELLING = (1.2, 0.0, 0.05, 0.15, 0.5, 3.0, 8.0, 19.0, 30.0, 70.0, 350.0, 640.0)
# From an earlier task's creation on, or from its end.
BEFORE_FOLLOWING = (2.0, 0.5, 1.1, 1.3, 5.0, 25.0, 70.0, 661.0, 962.0)
AFTER_AN_END = (0.0, 0.01, 0.3, 1.2, 30.0)
BEFORE_DELETING = (3.0, 0.1, 1.0, 30.0, 70.0, 700.0)
LISTS = (
    "/tasks",
    "/tasks?limit=2",
    "/tasks?status=pending,processing&limit=2",
    "/tasks?status=error",
    "/tasks?status=completed,error&limit=1",
)


class Person(Caller):
    """One who has tasks done."""

    def post(self, body: Json, key: str | None) -> Reply | None:
        """Asks for a task."""
        headers = {} if key is None else {"idempotency-key": key}
        reply = self.request("POST", "/tasks", body, headers)
        if reply and ("follows" not in body or reply.status in SETTLED):
            answers.posted(self.known, key, body["description"], reply)
        elif reply:
            answers.refused_to_follow(self.known, body["follows"], reply)
        return reply

    def insist(self, body: Json, key: str | None, tries: int) -> str | None:
        """Posts until there is an answer worth having, or patience ends; returns the task's id."""
        for _ in range(tries):
            reply = self.post(body, key)
            if reply and reply.status in SETTLED:
                return reply.body.get("id")
            self.world.sleep(self.choices.pick(BEFORE_POSTING_AGAIN))
        return None

    def poll(self, task_id: str) -> None:
        """Looks at a task now and then, with a liking for the moment of its deadline."""
        before: Json = None
        etag = ""
        for _ in range(self.choices.below(7)):
            if self.choices.below(2):
                self.world.sleep(self.choices.pick(BETWEEN_POLLS))
            else:
                due = self.known.due(task_id) - self.world.now
                self.world.sleep(due + self.choices.pick(AROUND_A_DEADLINE))
            headers = {"if-none-match": etag} if etag and self.choices.below(2) else {}
            reply = self.request("GET", f"/tasks/{task_id}", headers=headers)
            if reply and reply.status == 200:
                answers.seen_again(before, reply.body)
                before = reply.body
                etag = reply.headers["ETag"]
                if "Retry-After" not in reply.headers and self.choices.below(2) == 0:
                    return
            elif reply and reply.status == 304 and before:
                answers.seen_unchanged(before, reply)

    def list(self) -> None:
        """Lists tasks, page by page."""
        path = self.choices.pick(LISTS)
        for _ in range(4):
            reply = self.request("GET", path)
            if not reply or reply.status != 200 or "Link" not in reply.headers:
                return
            path = urljoin(path, reply.headers["Link"].partition("<")[2].partition(">")[0])

    def cancel(self, task_id: str) -> None:
        """Cancels a task, perhaps again and again, and looks how it ends."""
        for _ in range(self.choices.pick((1, 2, 3))):
            reply = self.request("POST", f"/tasks/{task_id}/cancel")
            if reply:
                answers.cancelled(self.known, task_id, reply)
            self.world.sleep(self.choices.pick((0.2, 2.0, 22.0, 59.0, 65.0, 71.0)))
        self.request("GET", f"/tasks/{task_id}")

    def or_other(self) -> Person:
        """Most often the same person."""
        return Person(self.backend, self.choices.pick((self.owner, self.owner, *OWNERS)))

    def delete(self, task_id: str) -> bool:
        """Deletes a task, if it has ended."""
        reply = self.request("DELETE", f"/tasks/{task_id}")
        if reply:
            answers.removed(self.known, task_id, reply)
        return bool(reply and reply.status == 204)

    def come(self, key: str | None, description: str) -> None:
        """Posts a task and polls it, and does what else one does with a task."""
        tries = self.choices.pick((1, 2, 3))
        task_id = self.insist({"description": description}, key, tries)
        if not task_id:
            return
        self._perhaps_cancel(task_id)
        self.world.spawn("follows", lambda: self._perhaps_follow(task_id))
        if self.choices.below(4) == 3:
            self.world.spawn("deleter", lambda: self._delete_and_disturb(task_id, description, key))
        if self.choices.below(2):
            self.world.spawn("poller", lambda: self.poll(task_id))
        self.poll(task_id)

    def _perhaps_follow(self, task_id: str) -> None:
        """Has a task followed around its end, once or twice at once, and perhaps by another."""
        choices, world = self.choices, self.world
        if choices.below(8) < 5:
            return
        world.count("client: follows")
        wait = 0.0
        if choices.below(2):
            self.known.wait_for_end(task_id)
            world.sleep(choices.pick(AFTER_AN_END))
        else:
            wait = choices.pick(BEFORE_FOLLOWING)
        for _ in range(choices.pick((1, 1, 2, 3))):
            somebody, key = self.or_other(), choices.pick((None, "follow-1", "follow-2"))
            world.spawn("follower", partial(somebody.follow, task_id, key), delay=wait)
            wait += choices.pick((0.0, 0.001, 0.3, 25.0))

    def follow(self, task_id: str, key: str | None) -> None:
        """Follows a task; and again, perhaps, where the follower never started."""
        choices = self.choices
        body: Json = {"description": choices.pick(DESCRIPTIONS), "follows": task_id}
        if choices.below(3) == 2:
            body["answers"] = {"booking": True}
        follower_id = self.insist(body, key, choices.pick((2, 1, 3)))
        if not follower_id:
            return
        self._perhaps_cancel(follower_id)
        self.world.spawn("follows", lambda: self._perhaps_follow(follower_id))
        if choices.below(4) < 3:
            self.known.wait_for_end(follower_id)
            if self.known.lives[follower_id].never_started:
                self.world.count("client: follows again")
                self.follow(task_id, None)
        self.poll(follower_id)
        if choices.below(8) == 7:
            self.delete(task_id)

    def _perhaps_cancel(self, task_id: str) -> None:
        """Has a task cancelled at some moment, by who owns it or by somebody else."""
        choices, world = self.choices, self.world
        if choices.below(8) < 5:
            return
        wait, somebody = choices.pick(BEFORE_CANCELLING), self.or_other()
        world.count("client: cancels")
        world.spawn("canceller", lambda: somebody.cancel(task_id), delay=wait)
        if choices.below(4) == 3:
            wait += choices.pick((0.0, 0.001, 0.3, 25.0))
            world.spawn("canceller", lambda: somebody.cancel(task_id), delay=wait)

    def _delete_and_disturb(self, task_id: str, description: str, key: str | None) -> None:
        """Deletes a task once it may be, and then does what must bring nothing back."""
        choices, world, somebody = self.choices, self.world, self.or_other()
        for _ in range(3):
            world.sleep(choices.pick(BEFORE_DELETING))
            if somebody.delete(task_id):
                world.count("client: task deleted")
                break
        else:
            return
        for _ in range(choices.below(4)):
            world.sleep(choices.pick((0.0, 1.0, 40.0)))
            match choices.below(5):
                case 0:
                    self.request("GET", f"/tasks/{task_id}")
                case 1:
                    self.post({"description": choices.pick((description, DESCRIPTIONS[1]))}, key)
                case 2:
                    _by_hand(self.backend, {"task_id": task_id, "description": description})
                case 3:
                    _by_hand(self.backend, {"stop": task_id})
                case _:
                    self.list()
                    self.delete(task_id)


def client(backend: Backend) -> None:
    """Comes some time, perhaps over two connections at once."""
    choices, world = backend.world.choices, backend.world
    person = Person(backend, choices.pick(OWNERS))
    come = partial(person.come, choices.pick(KEYS), choices.pick(DESCRIPTIONS))
    world.sleep(choices.pick(STARTS))
    if come.args[0] and choices.below(3) == 2:
        world.count("client: two connections")
        world.spawn("client", come)
    come()


def _by_hand(backend: Backend, event: Json) -> None:
    world = backend.world
    world.count("operator: worker invoked by hand")
    request_id = f"by-hand-{next(world.ids)}"
    world.spawn("by hand", lambda: backend.run_worker(event, request_id))


def lister(backend: Backend) -> None:
    """Lists now and then."""
    choices = backend.world.choices
    person = Person(backend, choices.pick(OWNERS))
    for _ in range(choices.below(3) + 1):
        backend.world.sleep(choices.pick((0.5, 20.0, 400.0, 961.0)))
        person.list()
        for task_id in list(backend.known.told)[:2]:
            # Everybody's own task, or a 404: the watcher of replies knows which.
            person.request("GET", f"/tasks/{task_id}")


def operator(backend: Backend) -> None:
    """Invokes the worker by hand, perhaps twice at once."""
    world, choices = backend.world, backend.world.choices
    event = {"task_id": "test-123", "description": DESCRIPTIONS[0]}
    for _ in range(choices.below(2) + 1):
        _by_hand(backend, event)
        world.sleep(choices.pick((0.0, 0.01, 5.0)))


def meddler(backend: Backend) -> None:
    """Sends events of other people's tasks by hand: stops that nobody asked for, and starts."""
    world, choices = backend.world, backend.world.choices
    for _ in range(choices.below(4) + 1):
        world.sleep(choices.pick((0.5, 3.0, 30.0, 700.0)))
        for task_id in list(backend.known.told)[:2]:
            is_stop = choices.below(3) < 2
            event = {"task_id": task_id, "description": DESCRIPTIONS[0]}
            _by_hand(backend, {"stop": task_id} if is_stop else event)


def cleaner(backend: Backend) -> None:
    """Waits for a task of a certain status, and deletes it at the console."""
    world, choices, items = backend.world, backend.world.choices, backend.aws.table.items
    status = choices.pick(("processing", "pending", "completed"))
    if "late" in backend.aws.dynamodb_weather.kinds:
        return  # a put that comes after the deletion would make the task anew, as it must
    for _ in range(6):
        world.sleep(choices.pick((0.4, 0.05, 3.0, 20.0)))
        for task_id in backend.known.told:
            # Not one made from a key: its key would make it anew, as it should.
            if task_id.startswith("0000") and items[task_id]["status"]["S"] == status:
                world.count("operator: task deleted")
                world.trace(f"deletes {task_id}")
                backend.known.forget(task_id, items[task_id])
                backend.aws.table.delete_item(TableName="valro-tasks", Key={"id": {"S": task_id}})
                return


def last_reader(backend: Backend, tasks: dict[str, Json]) -> None:
    """Reads every task at the latest moment by which it must have ended, and lists them."""
    known, owners = backend.known, set()
    for task_id in sorted(known.lives, key=known.due):
        if known.lives[task_id].is_deleted:
            continue
        due = known.due(task_id) + known.tolerance
        backend.world.sleep(due + 0.001 - backend.world.now)
        owner = backend.aws.table.items[task_id]["owner"]["S"]
        person = Person(backend, None if owner == "public" else owner.partition("#")[2])
        reply = person.request("GET", f"/tasks/{task_id}")
        if reply is None or reply.status != 200:
            raise Violation("every task can be read", f"{task_id}: {reply}")
        tasks[task_id] = reply.body
        owners.add(person.owner)
    for name in OWNERS:
        if name in owners:
            Person(backend, name).list()
