"""What the store reads: whole answers, pages, and items that it did not write."""

import base64
import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any, ClassVar

import pytest
from botocore.exceptions import ClientError
from hypothesis import example, given
from hypothesis import strategies as st

from dynamodb_helpers import TaskStore
from tests.product.dynamodb_helpers.fakes import (
    ANSWER,
    BARE_TABLE,
    COMPLETED,
    ITEM_LIMIT,
    NOW,
    Clock,
    Network,
    after,
    claimed,
    create,
    everything,
    messages,
    noise,
    seen,
    stored,
    throttled,
)
from valro import dynamodb_pages
from valro.agent.interrupts import MAX_INTERRUPTS
from valro.conversations import MAX_RESUME_BYTES
from valro.dynamodb_items import InvalidCursor, decode_cursor, encode_cursor
from valro.dynamodb_pages import StoreBusy
from valro.store_errors import TaskNotClaimable, TaskNotFound
from valro.tasks import (
    CHUNK_CHARACTERS,
    MAX_AGENT_EVENTS,
    MAX_ANSWER_BYTES,
    MAX_DESCRIPTION_CHARACTERS,
    MAX_INLINE_ANSWER_BYTES,
    PUBLIC_OWNER,
    REPORT_IDS,
    Outcome,
    Report,
    timestamp,
)


class TestGetOne:
    def test_a_task_that_is_not_there_is_not_found(self, store: TaskStore):
        with pytest.raises(TaskNotFound):
            store.get_task("task-1", PUBLIC_OWNER)

    def test_somebody_elses_task_is_not_found_and_not_touched(self, store: TaskStore, clock: Clock):
        create(store, owner="jwt#somebody")
        clock.now += 961
        for owner in (PUBLIC_OWNER, "jwt#nobody"):
            with pytest.raises(TaskNotFound):
                store.get_task("task-1", owner)
        assert stored(store)["status"] == {"S": "pending"}

    @pytest.mark.parametrize(
        "task_id", ["", "task-1#0", "#", "a b", "a/b", "-a", "é", "x" * 101, "a\n", "../a"]
    )
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

    def test_an_error_goes_through(self, store: TaskStore, network: Network):
        network.plan("get_item", throttled)
        with pytest.raises(ClientError, match="Slow down"):
            store.get_task("task-1", PUBLIC_OWNER)


class TestAnswers:
    @pytest.mark.parametrize(
        "text",
        [
            noise(MAX_INLINE_ANSWER_BYTES + 1),
            noise(4 * CHUNK_CHARACTERS + 1),
            "x" + "\U0001f3e1" * 200_000,
        ],
        ids=["more than an item's", "one character too much", "chunks split characters"],
    )
    def test_a_large_answer_comes_back_whole(self, store: TaskStore, text: str):
        store.end_task(claimed(store), Outcome.of(ANSWER | {"agent_response": text}))
        task = seen(store)
        assert task["agent_response"] == text
        assert task["vendors"] == ANSWER["vendors"]
        assert "agent_response_truncated" not in task
        assert messages(task) == COMPLETED

    def test_up_to_200_kb_an_answer_is_part_of_its_item(self, store: TaskStore):
        text = "x" * (MAX_INLINE_ANSWER_BYTES - 4)
        store.end_task(
            claimed(store), Outcome.of({"agent_response": text, "vendors": [], "quotes": []})
        )
        assert len(everything(store)) == 1
        store.end_task(
            claimed(store, "task-2"),
            Outcome.of({"agent_response": f"{text}x", "vendors": [], "quotes": []}),
        )
        ids = {item["id"]["S"] for item in everything(store)}
        assert ids == {"task-1", "task-2", *(f"task-2#{number}" for number in range(3))}

    def test_vendors_and_quotes_can_be_the_large_part(self, store: TaskStore):
        vendors = [{"name": f"Vendor {number}", "price": number / 3} for number in range(15_000)]
        store.end_task(claimed(store), Outcome.of(ANSWER | {"vendors": vendors}))
        assert seen(store)["vendors"] == vendors

    def test_no_item_is_ever_larger_than_dynamodb_takes(self, store: TaskStore):
        """Everything at its largest at once, in the dearest characters, and what it follows too."""
        house, owner, store.ttl_days = "\U0001f3e1", "jwt#" + "x" * 255, 365
        description = house * MAX_DESCRIPTION_CHARACTERS
        response = house * ((MAX_INLINE_ANSWER_BYTES - 4) // 4)
        asked = [{"id": f"{n:04}", "message": house * 190} for n in range(MAX_INTERRUPTS)]
        outcome = Outcome.of(
            {
                "agent_response": response,
                "vendors": [],
                "interrupts": asked,
                "message_id": "m" * 200,
            }
        )
        answers = {"0000": house * ((MAX_RESUME_BYTES - 1_200) // 4)}
        ids = [f"{n}".ljust(100, "x") for n in range(3)]

        def follow(earlier: str, following: str) -> None:
            how: dict[str, Any] = {"follows": earlier, "answers": answers}
            store.follow_task(following, description, owner, "f" * 129, **how)

        store.create_task(ids[0], description, owner, "f" * 64)
        store.end_task(store.claim_task(ids[0], "t" * 32, NOW + 600), outcome)
        follow(*ids[:2])
        claim = store.claim_task(ids[1], "t" * 32, NOW + 600, "", "h" * 64)
        for _ in range(MAX_AGENT_EVENTS + 1):
            claim.timeline.add_progress(timestamp(NOW), house * 1000)
        store.accept_task(claim)
        task = store.find_task(ids[1])
        for n in range(1, REPORT_IDS + 1):
            end = outcome if n == REPORT_IDS else None
            task = store.report(task, Report(f"{n}".ljust(100, "x"), outcome=end))
        follow(*ids[1:])
        item = store.client.get_item(TableName=store.table_name, Key={"id": {"S": ids[1]}})["Item"]
        assert {"history", "resume", "interrupts", "followed_by", "report_ids"} < item.keys()
        assert 360_000 < weight_of(item) < ITEM_LIMIT

    def test_a_task_with_the_largest_answer_is_within_a_transaction(
        self, store: TaskStore, network: Network
    ):
        requests: list[dict[str, Any]] = []

        def look(real: Callable[..., Any], request: dict[str, Any]) -> Any:
            requests.append(request)
            return real(**request)

        network.plan("transact_write_items", look)
        claim = claimed(store)
        for _ in range(MAX_AGENT_EVENTS + 1):
            claim.timeline.add_progress(timestamp(NOW), "\U0001f3e1" * 1000)
        store.end_task(claim, Outcome.of({"agent_response": "x" * MAX_ANSWER_BYTES}))
        items = everything(store)
        assert all(weight_of(item) < ITEM_LIMIT for item in items)
        assert sum(map(weight_of, items)) < 4 * 1024 * 1024
        assert len(requests[0]["TransactItems"]) <= 100

    def test_chunks_carry_the_tasks_ttl_and_no_owner(self, store: TaskStore):
        store.ttl_days = 7
        store.end_task(claimed(store), Outcome.of({"agent_response": "x" * 400_000}))
        expires_at = {"N": str(int(NOW) + 7 * 86_400)}
        assert len(everything(store)) == 1 + 5
        assert all(item["expires_at"] == expires_at for item in everything(store))
        assert [item["id"]["S"] for item in everything(store) if "owner" in item] == ["task-1"]

    def test_a_task_whose_chunks_ttl_has_removed_is_not_found(
        self, store: TaskStore, dynamodb: Any
    ):
        store.end_task(claimed(store), Outcome.of({"agent_response": "x" * 400_000}))
        dynamodb.delete_item(TableName=store.table_name, Key={"id": {"S": "task-1#1"}})
        with pytest.raises(TaskNotFound):
            seen(store)

    @pytest.mark.parametrize(
        "value",
        [
            0.1,
            1e300,
            -1e-300,
            12345678901234567890123456789012345678901234567890,
            True,
            None,
            "",
            [],
            {},
            {"": ""},
            "emoji 👩‍🌾, line\u2028separator, nul \x00, backslash \\",
            [[], [[]], {"a": [{"b": None}]}],
            json.loads("[" * 500 + '"deep"' + "]" * 500),  # DynamoDB would refuse it as lists
        ],
        ids=lambda value: str(value).strip("[")[:20],
    )
    @pytest.mark.parametrize("padding", [0, 400_000])
    def test_any_json_survives_in_vendors_and_quotes(
        self, store: TaskStore, value: Any, padding: int
    ):
        answer = {"agent_response": "x" * padding, "vendors": [value], "quotes": [{"q": value}]}
        store.end_task(claimed(store), Outcome.of(answer))
        task = seen(store)
        assert task["vendors"] == [value]
        assert task["quotes"] == [{"q": value}]
        assert type(task["vendors"][0]) is type(value)


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
        if kind == "BOOL":
            return 1
        return len(content.encode() if isinstance(content, str) else content)

    return sum(len(name) + value_weight(value) for name, value in item.items())


class TestForeignItems:
    """Items that an older version, or a person with the AWS CLI, has put into the table."""

    ITEM: ClassVar[dict[str, Any]] = {
        "id": {"S": "old-1"},
        "description": {"S": "Find me a landscaper"},
        "status": {"S": "completed"},
        "agent_response": {"S": "Done"},
        "vendors": {"L": [{"M": {"name": {"S": "A"}, "price": {"N": "275.5"}, "n": {"N": "3"}}}]},
        "quotes": {"L": []},
        "emails_sent": {"N": "3"},
        "events": {
            "L": [
                {"M": {"ts": {"S": "t"}, "message": {"S": "Task created"}, "type": {"S": "info"}}}
            ]
        },
        "created_at": {"S": "2025-10-31T12:00:00.123456"},
        "updated_at": {"S": "2025-10-31T12:00:00.123456"},
    }

    def test_one_whose_expiry_is_no_time_is_ended_and_deleted_like_any(
        self, store: TaskStore, dynamodb: Any
    ):
        pending = {"status": {"S": "pending"}, "expires_at": {"NULL": True}}
        pending["deadline"] = {"S": timestamp(NOW + 60)}
        dynamodb.put_item(TableName=store.table_name, Item=self.ITEM | pending)
        claim = store.claim_task("old-1", "claim", NOW + 60)
        store.end_task(claim, Outcome.of({"agent_response": "x" * 400_000}))
        assert seen(store, "old-1")["status"] == "completed"
        store.delete_task("old-1", "public")
        assert [set(item) for item in everything(store)] == [{"id", "status"}]

    def test_without_an_owner_they_are_everybodys(self, store: TaskStore, dynamodb: Any):
        dynamodb.put_item(TableName=store.table_name, Item=self.ITEM)
        assert seen(store, "old-1")["owner"] == PUBLIC_OWNER
        with pytest.raises(TaskNotFound):
            store.get_task("old-1", "jwt#somebody")

    def test_without_a_deadline_no_worker_gets_them(self, store: TaskStore, dynamodb: Any):
        """Whether their agent has run is not known."""
        item = self.ITEM | {"status": {"S": "pending"}}
        dynamodb.put_item(TableName=store.table_name, Item=item)
        with pytest.raises(TaskNotClaimable):
            store.claim_task("old-1", "mine", NOW + 600)

    def test_a_bare_table_lists_them(self, bare: TaskStore, dynamodb: Any, clock: Clock):
        dynamodb.put_item(TableName=BARE_TABLE, Item=self.ITEM)
        clock.now += 3600
        create(bare, "new-1")
        tasks, _ = bare.list_tasks(PUBLIC_OWNER, 10)
        assert [task["id"] for task in tasks] == ["new-1", "old-1"]
        assert "agent_response" not in tasks[1]

    def test_a_cursor_at_a_time_of_another_form_leads_on(self, bare: TaskStore, dynamodb: Any):
        for number in range(3):
            changes = {
                "id": {"S": f"old-{number}"},
                "created_at": {"S": f"2025-10-31 12:00:0{number}"},
            }
            dynamodb.put_item(TableName=BARE_TABLE, Item=self.ITEM | changes)
        first, cursor = bare.list_tasks(PUBLIC_OWNER, 2)
        rest, more = bare.list_tasks(PUBLIC_OWNER, 2, cursor)
        assert [task["id"] for task in first + rest] == ["old-2", "old-1", "old-0"]
        assert more is None

    def test_a_bare_table_skips_what_is_no_task_as_an_index_would(
        self, bare: TaskStore, dynamodb: Any
    ):
        dynamodb.put_item(TableName=BARE_TABLE, Item={"id": {"S": "note"}, "x": {"S": "y"}})
        dynamodb.put_item(
            TableName=BARE_TABLE, Item={"id": {"S": "no-date"}, "status": {"S": "completed"}}
        )
        tombstone = {name: self.ITEM[name] for name in ("id", "created_at")}
        dynamodb.put_item(TableName=BARE_TABLE, Item=tombstone | {"status": {"S": "deleted"}})
        create(bare, "new-1")
        tasks, more = bare.list_tasks(PUBLIC_OWNER, 1)
        assert [task["id"] for task in tasks] == ["new-1"]
        assert more is None

    @pytest.mark.parametrize(
        "value,plain",
        [
            ({"N": "1"}, 1),
            ({"N": "-1.50"}, -1.5),
            ({"N": "1E+2"}, 100.0),
            (
                {"N": "12345678901234567890123456789012345678"},
                12345678901234567890123456789012345678,
            ),
            ({"BOOL": False}, False),
            ({"NULL": True}, None),
            ({"SS": ["a"]}, ["a"]),
            ({"NS": ["1", "2.5"]}, [1, 2.5]),
            ({"M": {"a": {"L": [{"S": ""}]}}}, {"a": [""]}),
        ],
    )
    def test_every_type_of_dynamodbs_that_json_has_is_read(
        self, store: TaskStore, dynamodb: Any, value: Any, plain: Any
    ):
        item = self.ITEM | {"vendors": {"L": [value]}}
        dynamodb.put_item(TableName=store.table_name, Item=item)
        (found,) = seen(store, "old-1")["vendors"]
        assert found == plain
        assert type(found) is type(plain)
        assert not isinstance(found, Decimal)


class TestListing:
    def fill(self, store: TaskStore, clock: Clock, count: int, owner: str = PUBLIC_OWNER) -> None:
        for number in range(count):
            clock.now += 1
            create(store, f"{owner.replace('#', '-')}-{number:03}", owner)

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
    def test_pages_hold_each_task_once_and_the_last_names_no_next(
        self, either: TaskStore, clock: Clock, count: int, sizes: list[int]
    ):
        self.fill(either, clock, count)
        pages = self.walk(either, 4)
        assert [len(page) for page in pages] == sizes
        assert [task_id for page in pages for task_id in page] == [
            f"public-{number:03}" for number in reversed(range(count))
        ]

    def test_pages_stay_where_they_are_while_tasks_are_created(
        self, either: TaskStore, clock: Clock
    ):
        self.fill(either, clock, 6)
        first, cursor = either.list_tasks(PUBLIC_OWNER, 3)
        clock.now += 1
        create(either, "newcomer")
        second, cursor = either.list_tasks(PUBLIC_OWNER, 3, cursor)
        assert cursor is None
        assert [task["id"] for task in first + second] == [
            f"public-{number:03}" for number in (5, 4, 3, 2, 1, 0)
        ]

    def test_a_cursor_whose_task_is_gone_leads_on(
        self, either: TaskStore, clock: Clock, dynamodb: Any
    ):
        self.fill(either, clock, 4)
        _, cursor = either.list_tasks(PUBLIC_OWNER, 2)
        dynamodb.delete_item(TableName=either.table_name, Key={"id": {"S": "public-002"}})
        tasks, _ = either.list_tasks(PUBLIC_OWNER, 2, cursor)
        assert [task["id"] for task in tasks] == ["public-001", "public-000"]

    def test_everyone_sees_their_own_tasks_only(self, either: TaskStore, clock: Clock):
        for owner in ("jwt#a", "jwt#b", PUBLIC_OWNER):
            self.fill(either, clock, 3, owner)
        assert self.walk(either, 2, "jwt#a") == [["jwt-a-002", "jwt-a-001"], ["jwt-a-000"]]
        assert self.walk(either, 2, "jwt#c") == [[]]

    def test_somebody_elses_cursor_reaches_nobody_elses_tasks(
        self, either: TaskStore, clock: Clock
    ):
        for owner in ("jwt#a", "jwt#b"):
            self.fill(either, clock, 3, owner)
        _, cursor = either.list_tasks("jwt#b", 1)
        tasks, _ = either.list_tasks("jwt#a", 50, cursor)
        assert {task["owner"] for task in tasks} <= {"jwt#a"}

    def test_the_text_of_the_answer_is_left_out_and_chunks_are_no_tasks(self, either: TaskStore):
        either.end_task(claimed(either, "small"), Outcome.of(ANSWER))
        either.end_task(
            claimed(either, "large"), Outcome.of(ANSWER | {"agent_response": "x" * 400_000})
        )
        tasks, _ = either.list_tasks(PUBLIC_OWNER, 50)
        by_id = {task["id"]: task for task in tasks}
        assert set(by_id) == {"small", "large"}
        assert not any("agent_response" in task for task in tasks)
        assert by_id["small"]["vendors"] == ANSWER["vendors"]
        assert "vendors" not in by_id["large"]
        assert by_id["large"]["emails_sent"] == 3

    def test_a_cursor_of_the_one_serves_for_the_other(
        self, store: TaskStore, bare: TaskStore, clock: Clock
    ):
        """The index may become usable between two pages."""
        self.fill(store, clock, 5)
        clock.now = NOW
        self.fill(bare, clock, 5)
        for here, there in ((store, bare), (bare, store)):
            first, cursor = here.list_tasks(PUBLIC_OWNER, 2)
            rest, _ = there.list_tasks(PUBLIC_OWNER, 50, cursor)
            assert [task["id"] for task in first + rest] == [
                f"public-{number:03}" for number in (4, 3, 2, 1, 0)
            ]

    def test_an_index_whose_pages_end_early_is_read_on(
        self, store: TaskStore, network: Network, clock: Clock
    ):
        """Somebody's own index may hold whole items, which fill 1 MB; here it is two keys."""
        self.fill(store, clock, 5)
        for _ in range(3):
            network.plan("query", lambda real, request: real(**request | {"Limit": 2}))
        tasks, cursor = store.list_tasks(PUBLIC_OWNER, 4)
        assert [task["id"] for task in tasks] == [f"public-{number:03}" for number in (4, 3, 2, 1)]
        assert cursor is not None

    def test_an_index_that_is_still_backfilling_is_scanned_around(
        self, store: TaskStore, network: Network, clock: Clock
    ):
        def backfilling(_real: Any, _request: Any) -> Any:
            message = f"Cannot read from backfilling global secondary index: {self}"
            text = {"Code": "ValidationException", "Message": message}
            raise ClientError({"Error": text}, "Query")

        self.fill(store, clock, 3)
        network.plan("query", backfilling)
        tasks, _ = store.list_tasks(PUBLIC_OWNER, 50)
        assert [task["id"] for task in tasks] == ["public-002", "public-001", "public-000"]

    @pytest.mark.parametrize("operation", ["query", "batch_get_item"])
    def test_any_other_error_goes_through(
        self, store: TaskStore, network: Network, clock: Clock, operation: str
    ):
        self.fill(store, clock, 1)
        network.plan(operation, throttled)
        with pytest.raises(ClientError, match="Slow down"):
            store.list_tasks(PUBLIC_OWNER, 50)

    def test_a_scan_reads_every_page_of_the_table(self, bare: TaskStore, clock: Clock):
        """DynamoDB ends a page at 1 MB; here at two items."""
        self.fill(bare, clock, 7)
        for _ in range(4):
            bare.client.plan("scan", lambda real, request: real(**request, Limit=2))
        assert self.walk(bare, 50) == [[f"public-{number:03}" for number in reversed(range(7))]]

    def test_keys_that_dynamodb_leaves_unprocessed_are_asked_for_again(
        self, store: TaskStore, network: Network, clock: Clock
    ):
        self.fill(store, clock, 5)

        def two_at_a_time(real: Callable[..., Any], request: dict[str, Any]) -> Any:
            wanted = request["RequestItems"][store.table_name]
            now, later = wanted["Keys"][:2], wanted["Keys"][2:]
            answer = real(RequestItems={store.table_name: wanted | {"Keys": now}})
            unprocessed = {store.table_name: wanted | {"Keys": later}} if later else {}
            return answer | {"UnprocessedKeys": unprocessed}

        for _ in range(3):
            network.plan("batch_get_item", two_at_a_time)
        assert self.walk(store, 50) == [[f"public-{number:03}" for number in (4, 3, 2, 1, 0)]]

    def test_keys_that_stay_unprocessed_are_an_error_not_a_shorter_list(
        self, store: TaskStore, network: Network, clock: Clock
    ):
        def nothing(_real: Any, request: dict[str, Any]) -> Any:
            return {"Responses": {}, "UnprocessedKeys": request["RequestItems"]}

        self.fill(store, clock, 2)
        waits: list[float] = []
        store.sleep = waits.append
        for _ in range(dynamodb_pages.BATCH_GET_ATTEMPTS):
            network.plan("batch_get_item", nothing)
        with pytest.raises(StoreBusy, match="2 of 2"):
            store.list_tasks(PUBLIC_OWNER, 50)
        assert len(waits) == dynamodb_pages.BATCH_GET_ATTEMPTS - 1
        assert sum(waits) < 15

    def test_100_tasks_are_one_page_and_one_batch(
        self, store: TaskStore, network: Network, clock: Clock
    ):
        self.fill(store, clock, 101)
        assert [len(page) for page in self.walk(store, 100)] == [100, 1]

    def test_a_task_that_is_deleted_while_the_index_still_has_it_is_left_out(
        self, store: TaskStore, network: Network, clock: Clock
    ):
        self.fill(store, clock, 3)
        key = {"id": {"S": "public-001"}}
        network.plan(
            "batch_get_item",
            after(lambda: network.client.delete_item(TableName=store.table_name, Key=key)),
        )
        assert self.walk(store, 50) == [["public-002", "public-000"]]


class TestCursors:
    @given(
        moment=st.floats(min_value=0, max_value=4e9),
        task_id=st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}", fullmatch=True),
    )
    def test_they_round_trip(self, moment: float, task_id: str):
        key = {"created_at": timestamp(moment), "id": task_id}
        cursor = encode_cursor(key)
        assert decode_cursor(cursor) == key
        assert cursor.isascii()
        assert cursor.replace("-", "").replace("_", "").isalnum()

    @pytest.mark.parametrize("created_at", ["2025-10-31", "Oct 31, 2025, 12:00 (UTC)", "é"])
    @pytest.mark.parametrize("task_id", ["task:1", "my task", "_"])
    def test_they_lead_past_items_of_other_peoples_making(
        self, store: TaskStore, dynamodb: Any, created_at: str, task_id: str
    ):
        names = {"id": task_id, "created_at": created_at, "owner": "jwt#z", "status": "completed"}
        for ours in (names, names | {"id": "last", "created_at": "!"}):
            item = {name: {"S": text} for name, text in ours.items()}
            dynamodb.put_item(TableName=store.table_name, Item=item)
        (first,), cursor = store.list_tasks("jwt#z", 1)
        (last,), more = store.list_tasks("jwt#z", 1, cursor)
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
        "value",
        [
            None,
            7,
            "12",
            [],
            ["2025-10-31T12:00:00.000000Z"],
            ["2025-10-31T12:00:00.000000Z", "a", "b"],
            ["2025-10-31T12:00:00.000000Z", 7],
            ["2025-10-31T12:00:00.000000Z", "a#0"],
            ["", "a"],
            ["x" * 2000, "a"],
            [None, "a"],
            {"2025": 1, "a": 2},
            [{"S": "x"}, "a"],
        ],
    )
    def test_json_that_is_no_place_in_a_list_is_malformed(self, value: Any):
        cursor = base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")
        with pytest.raises(InvalidCursor, match="'cursor' is not one that this API gave"):
            decode_cursor(cursor)
