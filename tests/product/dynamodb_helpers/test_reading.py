"""What the store reads: whole answers, pages, and items that it did not write."""

import base64
import json
import re
from collections.abc import Callable
from typing import Any, ClassVar

import pytest
from botocore.exceptions import ClientError
from hypothesis import example, given
from hypothesis import strategies as st

from dynamodb_helpers import TaskStore
from tests.product.dynamodb_helpers.fakes import (
    ANSWER,
    COMPLETED,
    NOW,
    Clock,
    Network,
    after,
    claimed,
    create,
    everything,
    messages,
    refused,
    seen,
    stored,
    throttled,
)
from valro import dynamodb_pages
from valro.agent.interrupts import MAX_INTERRUPTS
from valro.conversations import MAX_RESUME_BYTES
from valro.dynamodb_items import INDEX_NAME, InvalidCursor, decode_cursor, encode_cursor, from_item
from valro.dynamodb_pages import StoreBusy
from valro.store_errors import TaskNotClaimable, TaskNotFound
from valro.tasks import (
    MAX_AGENT_EVENTS,
    MAX_ANSWER_BYTES,
    MAX_DESCRIPTION_CHARACTERS,
    MAX_INLINE_ANSWER_BYTES,
    PUBLIC_OWNER,
    REPORT_IDS,
    Outcome,
    Report,
    dumps,
    timestamp,
)

BARE_TABLE = "bare-tasks"
ITEM_LIMIT = 400 * 1024
HOUSE = "\U0001f3e1"  # four bytes


# AWS's answers to a Query; moto's first one has another code.
no_index = refused(
    "ValidationException", message=f"The table does not have the specified index: {INDEX_NAME}"
)
backfilling = refused(
    "ValidationException", message="Cannot read from backfilling global secondary index"
)


@pytest.fixture
def bare(dynamodb: Any, clock: Clock) -> TaskStore:
    """A store on the table that is made by hand with a key and nothing else."""
    dynamodb.create_table(
        TableName=BARE_TABLE,
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        BillingMode="PAY_PER_REQUEST",
    )
    network = Network(dynamodb)
    network.always["query"] = no_index
    return TaskStore(network, BARE_TABLE, clock=clock, sleep=lambda _: None)


class TestGetOne:
    def test_somebody_elses_task_is_not_found_and_not_touched(self, store: TaskStore, clock: Clock):
        create(store, owner="jwt#somebody")
        clock.now += 961
        for owner in (PUBLIC_OWNER, "jwt#nobody"):
            with pytest.raises(TaskNotFound):
                store.get_task("task-1", owner)
        assert stored(store)["status"] == {"S": "pending"}

    @pytest.mark.parametrize("task_id", ["", "task-1#0", "a/b", "x" * 101])
    def test_an_id_that_no_task_can_have_is_not_found_without_asking(
        self, store: TaskStore, network: Network, task_id: str
    ):
        network.plan("get_item", lambda _real, _request: pytest.fail("DynamoDB was asked"))
        with pytest.raises(TaskNotFound):
            store.get_task(task_id, PUBLIC_OWNER)

    def test_a_replica_that_lags_is_never_asked(self, store: TaskStore, network: Network):
        """A client may read a task, and its answer's chunks, right after they were written."""

        def lagging(real: Callable[..., Any], request: dict[str, Any]) -> Any:
            (wanted,) = request.get("RequestItems", {"": request}).values()
            return real(**request) if wanted.get("ConsistentRead") is True else {"Responses": {}}

        network.always |= {"get_item": lagging, "batch_get_item": lagging}
        store.end_task(claimed(store), Outcome.of({"agent_response": "x" * 400_000}))
        assert seen(store)["agent_response"] == "x" * 400_000
        assert store.list_tasks(PUBLIC_OWNER, 10)[0][0]["status"] == "completed"

    @pytest.mark.parametrize(
        "operation, act",
        [
            ("get_item", seen),
            ("query", lambda store: store.list_tasks(PUBLIC_OWNER, 50)),
            ("batch_get_item", lambda store: store.list_tasks(PUBLIC_OWNER, 50)),
        ],
    )
    def test_an_error_goes_through(
        self, store: TaskStore, network: Network, operation: str, act: Any
    ):
        create(store)
        network.plan(operation, throttled)
        with pytest.raises(ClientError, match="Slow down"):
            act(store)


class TestAnswers:
    @pytest.mark.parametrize(
        "answer, chunks",
        [
            ({"agent_response": "x" * (MAX_INLINE_ANSWER_BYTES - 4), "vendors": []}, 0),
            ({"agent_response": "x" * (MAX_INLINE_ANSWER_BYTES - 3), "vendors": []}, 3),
            ({"agent_response": "x" + HOUSE * 200_000, "vendors": ["A"]}, 3),
            ({"vendors": [{"price": number / 3} for number in range(15_000)]}, 5),
        ],
        ids=["all that an item takes", "one byte more", "chunks split characters", "vendors"],
    )
    def test_a_large_answer_comes_back_whole(
        self, store: TaskStore, answer: dict[str, Any], chunks: int
    ):
        store.ttl_days = 7
        store.end_task(claimed(store), Outcome.of(answer | {"quotes": []}))
        task = seen(store)
        assert answer.items() <= task.items()
        assert "agent_response_truncated" not in task
        assert messages(task) == COMPLETED
        items = {item["id"]["S"]: item for item in everything(store)}
        assert items.keys() == {"task-1", *(f"task-1#{number}" for number in range(chunks))}
        expires_at = {"N": str(int(NOW) + 7 * 86_400)}
        assert all(item["expires_at"] == expires_at for item in items.values())
        assert [one for one in items if "owner" in items[one]] == ["task-1"]

    def test_no_item_is_ever_larger_than_dynamodb_takes(self, store: TaskStore):
        """Everything at its largest at once, in the dearest characters, and what it follows too."""
        owner, store.ttl_days = "jwt#" + "x" * 255, 365
        description = HOUSE * MAX_DESCRIPTION_CHARACTERS
        outcome = Outcome.of(
            {
                "agent_response": HOUSE * ((MAX_INLINE_ANSWER_BYTES - 4) // 4),
                "vendors": [],
                "interrupts": [
                    {"id": f"{n:04}", "message": HOUSE * 190} for n in range(MAX_INTERRUPTS)
                ],
                "message_id": "m" * 200,
            }
        )
        answers = {"0000": HOUSE * ((MAX_RESUME_BYTES - 1_200) // 4)}
        ids = [f"{n}".ljust(100, "x") for n in range(3)]

        def follow(earlier: str, following: str) -> None:
            how: dict[str, Any] = {"follows": earlier, "answers": answers}
            store.follow_task(following, description, owner, "f" * 129, **how)

        store.create_task(ids[0], description, owner, "f" * 64)
        store.end_task(store.claim_task(ids[0], "t" * 32, NOW + 600), outcome)
        follow(*ids[:2])
        claim = store.claim_task(ids[1], "t" * 32, NOW + 600, "", "h" * 64)
        for _ in range(MAX_AGENT_EVENTS + 1):
            claim.timeline.add_progress(timestamp(NOW), HOUSE * 1000)
        store.accept_task(claim)
        task = store.find_task(ids[1])
        for n in range(1, REPORT_IDS + 1):
            end = outcome if n == REPORT_IDS else None
            task = store.report(task, Report(f"{n}".ljust(100, "x"), outcome=end))
        follow(*ids[1:])
        item = stored(store, ids[1])
        assert {"history", "resume", "interrupts", "followed_by", "report_ids"} < item.keys()
        assert 360_000 < weight_of(item) < ITEM_LIMIT

    def test_a_task_with_the_largest_answer_is_within_a_transaction(self, store: TaskStore):
        claim = claimed(store)
        for _ in range(MAX_AGENT_EVENTS + 1):
            claim.timeline.add_progress(timestamp(NOW), HOUSE * 1000)
        store.end_task(claim, Outcome.of({"agent_response": "x" * MAX_ANSWER_BYTES}))
        weights = [weight_of(item) for item in everything(store)]
        assert max(weights) < ITEM_LIMIT
        assert sum(weights) < 4 * 1024 * 1024
        assert len(weights) <= 100

    def test_a_task_whose_chunks_ttl_has_removed_is_not_found(
        self, store: TaskStore, dynamodb: Any
    ):
        store.end_task(claimed(store), Outcome.of({"agent_response": "x" * 400_000}))
        dynamodb.delete_item(TableName=store.table_name, Key={"id": {"S": "task-1#1"}})
        with pytest.raises(TaskNotFound):
            seen(store)

    @pytest.mark.parametrize("padding", [0, 400_000])
    def test_any_json_survives_in_vendors_and_quotes(self, store: TaskStore, padding: int):
        """DynamoDB would refuse a number so long, or lists so deep."""
        deep = json.loads("[" * 500 + '"deep"' + "]" * 500)
        numbers = [0.1, 1e300, -1e-300, 3, 12345678901234567890123456789012345678901234567890]
        texts = ["", "emoji 👩‍🌾, line\u2028separator, nul \x00, backslash \\"]
        values = [*numbers, *texts, deep, True, None, [], {}, {"": ""}, {"a": [{"b": None}]}]
        answer = {"vendors": values, "quotes": [{"q": value} for value in values]}
        store.end_task(claimed(store), Outcome.of(answer | {"agent_response": "x" * padding}))
        assert dumps({name: seen(store)[name] for name in answer}) == dumps(answer)


def weight_of(item: dict[str, Any]) -> int:
    """An item's size by DynamoDB's rules: names and values in UTF-8, 3 bytes a container.

    https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/CapacityUnitCalculations.html
    """

    def value_weight(value: dict[str, Any]) -> int:
        ((kind, content),) = value.items()
        if kind == "L":
            return 3 + sum(1 + value_weight(element) for element in content)
        if kind == "M":
            return 3 + sum(1 + len(name) + value_weight(part) for name, part in content.items())
        if kind == "N":
            return len(content) // 2 + 2
        return 1 if kind == "BOOL" else len(content.encode())

    return sum(len(name) + value_weight(value) for name, value in item.items())


class TestForeignItems:
    """Items that an older version, or a person with the AWS CLI, has put into the table."""

    ITEM: ClassVar[dict[str, Any]] = {
        "id": {"S": "old-1"},
        "description": {"S": "Find me a landscaper"},
        "status": {"S": "completed"},
        "agent_response": {"S": "Done"},
        "quotes": {"L": []},
        "emails_sent": {"N": "3"},
        "events": {"L": []},
        "created_at": {"S": "2025-10-31T12:00:00.123456"},
        "updated_at": {"S": "2025-10-31T12:00:00.123456"},
    }

    def put(self, store: TaskStore, **changes: Any) -> None:
        store.client.put_item(TableName=store.table_name, Item=self.ITEM | changes)

    def test_one_whose_expiry_is_no_time_is_ended_and_deleted_like_any(self, store: TaskStore):
        deadline = {"S": timestamp(NOW + 60)}
        self.put(store, status={"S": "pending"}, expires_at={"NULL": True}, deadline=deadline)
        claim = store.claim_task("old-1", "claim", NOW + 60)
        store.end_task(claim, Outcome.of({"agent_response": "x" * 400_000}))
        assert seen(store, "old-1")["status"] == "completed"
        store.delete_task("old-1", "public")
        assert [set(item) for item in everything(store)] == [{"id", "status"}]

    def test_without_an_owner_they_are_everybodys(self, store: TaskStore):
        self.put(store)
        assert seen(store, "old-1")["owner"] == PUBLIC_OWNER
        with pytest.raises(TaskNotFound):
            store.get_task("old-1", "jwt#somebody")

    def test_without_a_deadline_no_worker_gets_them(self, store: TaskStore):
        """Whether their agent has run is not known."""
        self.put(store, status={"S": "pending"})
        with pytest.raises(TaskNotClaimable):
            store.claim_task("old-1", "mine", NOW + 600)

    def test_a_bare_table_lists_them_and_skips_what_is_no_task_as_an_index_would(
        self, bare: TaskStore, clock: Clock
    ):
        self.put(bare)
        self.put(bare, id={"S": "gone"}, status={"S": "deleted"})
        for other in ({"x": {"S": "y"}}, {"status": {"S": "completed"}}):
            note = {"id": {"S": f"note-{len(str(other))}"}} | other
            bare.client.put_item(TableName=BARE_TABLE, Item=note)
        clock.now += 3600
        create(bare, "new-1")
        tasks, more = bare.list_tasks(PUBLIC_OWNER, 3)
        assert [task["id"] for task in tasks] == ["new-1", "old-1"]
        assert "agent_response" not in tasks[1]
        assert more is None

    def test_every_type_of_dynamodbs_that_json_has_is_read(self):
        long = "12345678901234567890123456789012345678"
        values: list[dict[str, Any]] = [{"N": number} for number in ("1", "-1.50", "1E+2", long)]
        values += [{"BOOL": False}, {"NULL": True}, {"SS": ["a"]}, {"NS": ["1", "2.5"]}]
        values.append({"M": {"a": {"L": [{"S": ""}]}}})
        read = [1, -1.5, 100.0, int(long), False, None, ["a"], [1, 2.5], {"a": [""]}]
        assert dumps(from_item(self.ITEM | {"vendors": {"L": values}})["vendors"]) == dumps(read)


class TestListing:
    def fill(self, store: TaskStore, clock: Clock, count: int, owner: str = PUBLIC_OWNER) -> None:
        for number in range(count):
            clock.now += 1
            create(store, f"{owner.replace('#', '-')}-{number}", owner)

    def walk(self, store: TaskStore, limit: int, owner: str = PUBLIC_OWNER) -> list[list[str]]:
        pages, cursor = [], None
        while True:
            tasks, cursor = store.list_tasks(owner, limit, cursor)
            pages.append([task["id"] for task in tasks])
            if cursor is None:
                return pages

    @pytest.fixture(params=["index", "scan"])
    def either(self, request: pytest.FixtureRequest, store: TaskStore, bare: TaskStore) -> Any:
        """The table with its index, and the one without."""
        return store if request.param == "index" else bare

    @pytest.mark.parametrize("count,sizes", [(4, [4]), (5, [4, 1]), (8, [4, 4]), (9, [4, 4, 1])])
    def test_pages_hold_each_task_of_an_owner_once_and_the_last_names_no_next(
        self, either: TaskStore, clock: Clock, count: int, sizes: list[int]
    ):
        for owner in ("jwt#b", PUBLIC_OWNER):
            self.fill(either, clock, count, owner)
        pages = self.walk(either, 4)
        assert [len(page) for page in pages] == sizes
        found = [task_id for page in pages for task_id in page]
        assert found == [f"public-{number}" for number in reversed(range(count))]
        assert self.walk(either, 4, "jwt#c") == [[]]
        _, cursor = either.list_tasks("jwt#b", 1)
        tasks, _ = either.list_tasks(PUBLIC_OWNER, 50, cursor)
        assert {task["owner"] for task in tasks} <= {PUBLIC_OWNER}

    def test_a_cursor_leads_on_though_tasks_come_and_its_own_goes_and_the_index_too(
        self, store: TaskStore, bare: TaskStore, clock: Clock
    ):
        """The index may become usable between two pages, or be removed."""
        for here in (store, bare):
            clock.now = NOW
            self.fill(here, clock, 5)
        cursors = [here.list_tasks(PUBLIC_OWNER, 2)[1] for here in (store, bare)]
        for here in (store, bare):
            create(here, "newcomer")
            key = {"id": {"S": "public-3"}}
            here.client.delete_item(TableName=here.table_name, Key=key)
            for cursor in cursors:
                tasks, more = here.list_tasks(PUBLIC_OWNER, 3, cursor)
                assert [task["id"] for task in tasks] == ["public-2", "public-1", "public-0"]
                assert more is None

    def test_the_text_of_the_answer_is_left_out_and_chunks_are_no_tasks(self, either: TaskStore):
        for task_id, size in (("small", 1), ("large", 400_000)):
            outcome = Outcome.of(ANSWER | {"agent_response": "x" * size})
            either.end_task(claimed(either, task_id), outcome)
        tasks, _ = either.list_tasks(PUBLIC_OWNER, 50)
        by_id = {task["id"]: task for task in tasks}
        assert set(by_id) == {"small", "large"}
        assert not any("agent_response" in task for task in tasks)
        assert by_id["small"]["vendors"] == ANSWER["vendors"]
        assert "vendors" not in by_id["large"]
        assert by_id["large"]["emails_sent"] == 3

    def test_pages_of_dynamodbs_that_end_early_are_read_on(self, either: TaskStore, clock: Clock):
        """At 1 MB of a table, or of an index with whole items in it; here at two items."""
        self.fill(either, clock, 7)
        operation = "query" if either.table_name != BARE_TABLE else "scan"
        either.client.always[operation] = lambda real, request: real(**request | {"Limit": 2})
        expected = [f"public-{number}" for number in reversed(range(7))]
        assert self.walk(either, 4) == [expected[:4], expected[4:]]

    def test_an_index_that_is_still_backfilling_is_scanned_around(
        self, store: TaskStore, network: Network, clock: Clock
    ):
        self.fill(store, clock, 3)
        network.plan("query", backfilling)
        assert self.walk(store, 50) == [["public-2", "public-1", "public-0"]]

    def test_keys_that_dynamodb_leaves_unprocessed_are_asked_for_again_for_some_seconds(
        self, store: TaskStore, network: Network, clock: Clock
    ):
        """If they stay so it is an error, not a shorter list."""

        def first(count: int) -> Callable[..., Any]:
            def happening(real: Callable[..., Any], request: dict[str, Any]) -> Any:
                ((table, wanted),) = request["RequestItems"].items()
                now, later = wanted["Keys"][:count], wanted["Keys"][count:]
                request = {table: wanted | {"Keys": now}}
                answer = real(RequestItems=request) if now else {"Responses": {}}
                unprocessed = {table: wanted | {"Keys": later}} if later else {}
                return answer | {"UnprocessedKeys": unprocessed}

            return happening

        self.fill(store, clock, 5)
        network.always["batch_get_item"] = first(2)
        assert self.walk(store, 50) == [[f"public-{number}" for number in (4, 3, 2, 1, 0)]]
        network.always["batch_get_item"] = first(0)
        waits: list[float] = []
        store.sleep = waits.append
        with pytest.raises(StoreBusy, match="5 of 5"):
            store.list_tasks(PUBLIC_OWNER, 50)
        assert len(waits) == dynamodb_pages.BATCH_GET_ATTEMPTS - 1
        assert sum(waits) < 15

    def test_100_tasks_are_one_page_and_one_batch(self, store: TaskStore, clock: Clock):
        self.fill(store, clock, 101)
        assert [len(page) for page in self.walk(store, 100)] == [100, 1]

    def test_a_task_that_is_deleted_while_the_index_still_has_it_is_left_out(
        self, store: TaskStore, network: Network, clock: Clock
    ):
        self.fill(store, clock, 3)
        key = {"id": {"S": "public-1"}}
        network.plan(
            "batch_get_item",
            after(lambda: network.client.delete_item(TableName=store.table_name, Key=key)),
        )
        assert self.walk(store, 50) == [["public-2", "public-0"]]


class TestCursors:
    @given(
        moment=st.floats(min_value=0, max_value=4e9),
        task_id=st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}", fullmatch=True),
    )
    def test_they_round_trip(self, moment: float, task_id: str):
        key = {"created_at": timestamp(moment), "id": task_id}
        cursor = encode_cursor(key)
        assert decode_cursor(cursor) == key
        assert re.fullmatch(r"[A-Za-z0-9_-]+", cursor)

    @pytest.mark.parametrize(
        "created_at, task_id",
        [("2025-10-31 12:00:00", "task:1"), ("Oct 31, 2025, 12:00 (UTC)", "my task"), ("é", "_")],
    )
    def test_they_lead_past_items_of_other_peoples_making(
        self, store: TaskStore, bare: TaskStore, created_at: str, task_id: str
    ):
        names = {"id": task_id, "created_at": created_at, "owner": "jwt#z", "status": "completed"}
        for here in (store, bare):
            for ours in (names, names | {"id": "last", "created_at": "!"}):
                item = {name: {"S": text} for name, text in ours.items()}
                here.client.put_item(TableName=here.table_name, Item=item)
            (first,), cursor = here.list_tasks("jwt#z", 1)
            (last,), more = here.list_tasks("jwt#z", 1, cursor)
            assert (first["id"], last["id"], more) == (task_id, "last", None)

    @given(st.text() | st.binary().map(lambda data: base64.urlsafe_b64encode(data).decode()))
    @example("")
    @example("é")
    @example("\ud800")
    @example("W10=")
    @example("A" * 10_000)
    @example(base64.urlsafe_b64encode(b"[" * 100_000).decode())
    def test_anything_else_is_malformed(self, text: str):
        with pytest.raises(InvalidCursor):
            decode_cursor(text)

    @pytest.mark.parametrize(
        "text",
        [
            *'null "12" [] ["2025"] ["2025","a","b"] ["2025",7] ["2025","a#0"] {"2025":1}'.split(),
            *'["","a"] [null,"a"]'.split(),
            json.dumps(["x" * 2000, "a"]),
        ],
    )
    def test_json_that_is_no_place_in_a_list_is_malformed(self, text: str):
        with pytest.raises(InvalidCursor, match="'cursor' is not one that this API gave out"):
            decode_cursor(base64.urlsafe_b64encode(text.encode()).decode().rstrip("="))
