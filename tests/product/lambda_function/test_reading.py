"""What GET answers: one task, a poll, a page of tasks, and items that nobody expects."""

import itertools
import json
from datetime import UTC, datetime
from typing import Any, ClassVar

import pytest

from dynamodb_helpers import TaskStore
from lambda_function import lambda_handler
from tests.product.lambda_function.function import (
    DESCRIPTION,
    STREAM,
    Counting,
    Worker,
    cancel,
    checked,
    code_of,
    complete,
    delete,
    event,
    let_pass,
    no_constant,
    pages,
    post,
    read,
    report_on,
    request,
    said,
    walk,
)
from valro import dynamodb_pages
from valro.tasks import PUBLIC_FIELDS, PUBLIC_OWNER, Outcome, timestamp


class TestGetOne:
    def test_a_finished_task_shows_what_is_public_and_nothing_else(
        self, store: TaskStore, worker: Worker
    ):
        task_id = said(post(idempotency_key="k-1"))["id"]
        complete(store, task_id)
        task = read(task_id)
        assert list(task) == [
            "id",
            "description",
            "status",
            "vendors",
            "quotes",
            "emails_sent",
            "events",
            "created_at",
            "updated_at",
            "thread_id",
            "agent_response",
            "started_at",
            "completed_at",
        ]
        assert task["status"] == "completed"
        assert task["agent_response"] == "Done"
        assert task["vendors"] == [{"name": "A", "emails": []}]
        assert task["quotes"] == [{"amount": 275.5}]
        assert task["emails_sent"] == 3
        assert [list(line) for line in task["events"]] == [["ts", "message", "type"]] * 4

    def test_a_new_task_has_its_lists_empty(self, worker: Worker):
        task = read(said(post())["id"])
        assert (task["vendors"], task["quotes"], task["emails_sent"]) == ([], [], 0)
        assert task["status"] == "pending"
        assert "agent_response" not in task
        assert "error_message" not in task

    def test_the_largest_answer_is_within_lambdas_response(self, store: TaskStore, worker: Worker):
        """With a full timeline of the dearest characters beside it."""
        task_id = said(post("é" * 4000))["id"]
        claim = store.claim_task(task_id, "t", 4e9)
        for _ in range(201):
            claim.timeline.add_progress(timestamp(0), "é" * 1000)
        store.end_task(claim, Outcome.of({"agent_response": "é" * 3_000_000}))
        task = read(task_id)
        assert task["agent_response_truncated"] is True
        assert len(task["agent_response"]) > 900_000

    @pytest.mark.parametrize(
        "task_id",
        ["7d5c7a0e-54f5-4a53-8a2f-6f2f7f0c9b11", "x", "a%23b", "a#0", "..", "ä", "x" * 300],
    )
    def test_what_is_not_there_is_404(self, worker: Worker, task_id: str):
        response = request("GET", f"/tasks/{task_id}")
        assert response["statusCode"] == 404
        assert said(response)["code"] == "task_not_found"

    def test_somebody_elses_task_is_404(self, worker: Worker):
        task_id = said(post(user="a"))["id"]
        assert request("GET", f"/tasks/{task_id}", user="b")["statusCode"] == 404
        assert request("GET", f"/tasks/{task_id}")["statusCode"] == 404
        assert read(task_id, user="a")["id"] == task_id

    @pytest.mark.parametrize(
        "code, may_have_acted",
        [("not_started", False), ("dispatch_failed", False), ("worker_lost", True), ("", True)],
    )
    def test_an_error_of_an_older_version_says_whether_the_agent_may_have_acted(
        self, store: TaskStore, worker: Worker, code: str, may_have_acted: bool
    ):
        item = {"id": {"S": "old-1"}, "status": {"S": "error"}, "created_at": {"S": "2025"}}
        item |= {"owner": {"S": PUBLIC_OWNER}} | ({"error_code": {"S": code}} if code else {})
        store.client.put_item(TableName=store.table_name, Item=item)
        for task in (read("old-1"), said(request("GET"))[0]):
            assert task["may_have_acted"] is may_have_acted
            assert {"started_at", "completed_at"}.isdisjoint(task)


class TestPolling:
    @pytest.mark.parametrize(
        "age,seconds",
        [(0, "1"), (9, "1"), (11, "2"), (59, "2"), (61, "5"), (299, "5"), (301, "10")],
    )
    def test_the_older_a_task_the_longer_one_waits(
        self, store: TaskStore, worker: Worker, age: Any, seconds: Any
    ):
        task_id = said(post())["id"]
        let_pass(store, task_id, age)
        assert request("GET", f"/tasks/{task_id}")["headers"]["Retry-After"] == seconds

    @pytest.mark.parametrize("form", ["{}", "W/{}", '"other", {}', '{} , W/"x"', "*"])
    def test_a_client_that_has_it_gets_304_and_no_body(self, worker: Worker, form: Any):
        task_id = said(post())["id"]
        etag = request("GET", f"/tasks/{task_id}")["headers"]["ETag"]
        assert etag.startswith('"')
        assert etag.endswith('"')
        response = request("GET", f"/tasks/{task_id}", if_none_match=form.format(etag))
        assert response["statusCode"] == 304
        assert "body" not in response
        assert response["headers"]["ETag"] == etag
        assert response["headers"]["Retry-After"] == "1"

    @pytest.mark.parametrize("tags", ["", '"other"', "nonsense", ","])
    def test_a_client_that_has_something_else_gets_the_task(self, worker: Worker, tags: Any):
        task_id = said(post())["id"]
        assert request("GET", f"/tasks/{task_id}", if_none_match=tags)["statusCode"] == 200

    def test_every_change_changes_the_tag(self, store: TaskStore, worker: Worker):
        task_id = said(post())["id"]

        def etag() -> str:
            return str(request("GET", f"/tasks/{task_id}")["headers"]["ETag"])

        tags = [etag()]
        claim = store.claim_task(task_id, "t", 4e9)
        tags.append(etag())
        claim.timeline.add_progress(claim.timeline.last_ts, "Found 3 vendors")
        store.record_progress(claim)
        tags.append(etag())
        store.end_task(claim, Outcome.of(STREAM))
        tags.append(etag())
        assert len(set(tags)) == 4
        assert etag() == tags[-1]

    def test_a_poller_with_a_tag_still_learns_that_the_task_was_given_up(
        self, store: TaskStore, worker: Worker
    ):
        task_id = said(post())["id"]
        let_pass(store, task_id, 959)
        etag = request("GET", f"/tasks/{task_id}")["headers"]["ETag"]
        let_pass(store, task_id, 2)
        response = request("GET", f"/tasks/{task_id}", if_none_match=etag)
        assert response["statusCode"] == 200
        assert said(response)["status"] == "error"

    def test_304_is_only_for_what_is_there(self, worker: Worker):
        assert request("GET", "/tasks/x", if_none_match="*")["statusCode"] == 404


class TestList:
    def test_nothing_yet_is_a_bare_empty_array(self, store: TaskStore):
        response = request("GET")
        assert response["statusCode"] == 200
        assert response["body"] == "[]"
        assert "Link" not in response["headers"]

    def test_the_newest_comes_first_without_its_text(self, store: TaskStore, worker: Worker):
        ids = [said(post(f"Task {number}"))["id"] for number in range(3)]
        complete(store, ids[0])
        tasks = said(request("GET"))
        assert [task["id"] for task in tasks] == ids[::-1]
        assert tasks[2]["status"] == "completed"
        assert tasks[2]["vendors"] == [{"name": "A", "emails": []}]
        assert "agent_response" not in tasks[2]
        assert set(tasks[2]) == {*PUBLIC_FIELDS, "started_at", "completed_at"}

    def test_links_lead_through_all_of_it_once(self, worker: Worker):
        ids = [said(post())["id"] for _ in range(5)]
        assert walk(limit="2") == [ids[4:2:-1], ids[2:0:-1], ids[:1]]

    def test_a_link_keeps_the_stage(self, worker: Worker):
        for _ in range(3):
            post()
        for name in ("http_api_v2_get_list", "rest_api_v1_get_list"):
            sent = event(name)
            if "v2" in name:
                sent["rawPath"] = "/prod/tasks"
                sent["requestContext"]["stage"] = "prod"
            response = checked(lambda_handler(sent, None))
            assert len(said(response)) == 2
            assert response["headers"]["Link"].startswith("<?limit=2&cursor=")

    def test_50_is_the_default_and_100_the_most(self, store: TaskStore, worker: Worker):
        for number in range(51):
            store.create_task(f"task-{number}", "x")
        assert [len(page) for page in walk()] == [50, 1]
        assert [len(page) for page in walk(limit="100")] == [51]

    @pytest.mark.parametrize(
        "limit", ["0", "101", "-1", "1.5", "ten", "", " 5", "5,5", "1e2", "٣", "9" * 5000]
    )
    def test_a_malformed_limit_is_400(self, store: TaskStore, limit: str):
        response = request("GET", query={"limit": limit})
        assert response["statusCode"] == 400
        assert said(response)["code"] == "invalid_limit"

    @pytest.mark.parametrize("cursor", ["", "x", "é", "W10", "bnVsbA", "x" * 5000, "a,b"])
    def test_a_malformed_cursor_is_400(self, store: TaskStore, cursor: str):
        response = request("GET", query={"cursor": cursor})
        assert response["statusCode"] == 400
        assert said(response)["code"] == "invalid_cursor"

    @pytest.mark.e2e
    @pytest.mark.parametrize("character", ["é", "\x7f"])
    def test_a_page_that_would_be_too_large_ends_early_and_links_on(
        self, store: TaskStore, worker: Worker, character: str
    ):
        """Either takes six bytes in Lambda's response, which escapes what is not printable ASCII."""
        ids = [said(post())["id"] for _ in range(15)]
        for task_id in ids:
            complete(store, task_id, vendors=[character * 90_000])
        assert walk() == [ids[:4:-1], ids[4::-1]]

    def test_overdue_tasks_are_shown_as_ended(self, store: TaskStore, worker: Worker):
        task_id = said(post())["id"]
        let_pass(store, task_id, 961)
        assert said(request("GET"))[0]["status"] == "error"


class TestListByStatus:
    """At most 300 tasks are looked at, and a link leads on from the last of them."""

    @pytest.fixture
    def client(self, monkeypatch: pytest.MonkeyPatch, store: TaskStore) -> Counting:
        client = Counting(store.client)
        monkeypatch.setattr(store, "client", client)
        return client

    @pytest.fixture
    def filled(
        self, client: Counting, store: TaskStore, worker: Worker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """62 tasks of which every seventh runs, and one of the oldest two has completed."""
        assert dynamodb_pages.MOST_KEYS_LOOKED_AT == 300
        monkeypatch.setattr(dynamodb_pages, "MOST_KEYS_LOOKED_AT", 30)
        monkeypatch.setattr(dynamodb_pages, "BATCH_GET_KEYS", 20)
        start = datetime.now(UTC).timestamp() - 700
        puts = []
        for number in range(62):
            running = number % 7 == 0
            status = "completed" if number == 1 else "processing" if running else "pending"
            moment = timestamp(start + number)
            item = {
                "id": {"S": f"task-{number:02}"},
                "owner": {"S": PUBLIC_OWNER},
                "description": {"S": "x"},
                "status": {"S": status},
                "created_at": {"S": moment},
                "deadline": {"S": timestamp(start + 3_600)},
            }
            puts.append({"PutRequest": {"Item": item}})
        for at in range(0, len(puts), 25):
            client.batch_write_item(RequestItems={store.table_name: puts[at : at + 25]})
        client.keys = []

    def test_matches_come_newest_first_once_each_page_after_page(self, filled: None):
        found = walk(status="processing", limit="2")
        assert [*itertools.chain(*found)] == [f"task-{n:02}" for n in range(56, -1, -7)]
        assert [len(page) for page in found] == [2, 2, 2, 2, 1]

    def test_a_rare_one_is_found_after_empty_pages_whose_links_lead_on(
        self, filled: None, client: Counting
    ):
        assert walk(status="completed", limit="10") == [[], [], ["task-01"]]
        # Of each page the states of 30 at most, then the matches whole.
        assert client.keys == [20, 10, 20, 10, 2, 1]

    def test_several_statuses_are_looked_for_at_once(self, filled: None):
        found = walk(status="completed,processing", limit="100")
        assert sorted([*itertools.chain(*found)]) == sorted(
            {f"task-{n:02}" for n in range(0, 62, 7)} | {"task-01"}
        )

    def test_a_task_that_is_over_is_judged_as_it_will_be_shown(
        self, store: TaskStore, worker: Worker
    ):
        task_id = said(post())["id"]
        let_pass(store, task_id, 961)
        assert walk(status="pending") == [[]]
        assert walk(status="error") == [[task_id]]

    def test_a_table_without_the_index_gives_the_same_pages(
        self, filled: None, client: Counting, monkeypatch: pytest.MonkeyPatch
    ):
        want = walk(status="processing", limit="2")
        client.has_index = False
        assert walk(status="processing", limit="2") == want

    @pytest.mark.parametrize("status", ["", "done", "pending,", "deleted", "Pending", "a" * 5_000])
    def test_a_status_that_there_is_not_is_400(self, store: TaskStore, status: str):
        response = request("GET", query={"status": status})
        assert response["statusCode"] == 400
        assert said(response)["code"] == "invalid_status"

    @pytest.mark.parametrize("name", ["limt", "Limit", "offset", "x" * 5_000])
    def test_a_parameter_that_there_is_not_is_400(self, store: TaskStore, name: str):
        response = request("GET", query={name: "5"})
        assert response["statusCode"] == 400
        assert said(response)["code"] == "invalid_query"


class TestDamagedItems:
    """What an older version or a hand at the table has left there costs nobody else anything."""

    GOOD: ClassVar[dict[str, Any]] = {
        "owner": {"S": PUBLIC_OWNER},
        "description": {"S": DESCRIPTION},
        "deadline": {"S": "2025-01-01T00:16:00.000000Z"},
        "created_at": {"S": "2025-01-01T00:00:00.000000Z"},
        "updated_at": {"S": "2025-01-01T00:00:00.000000Z"},
        "event_seq": {"N": "0"},
        "events": {"L": []},
        "emails_sent": {"N": "0"},
        "vendors": {"S": "[]"},
        "quotes": {"S": "[]"},
        "claim": {"S": "c"},
    }
    ODD: ClassVar[dict[str, Any]] = {
        "number": {"N": "7"},
        "text": {"S": "]x["},
        "bytes": {"B": b"\x00\xff"},
        "list": {"L": [{"N": "1"}]},
        "null": {"NULL": True},
    }
    NAMES = (
        "description status deadline updated_at event_seq events emails_sent vendors quotes claim "
        "cancel_requested_at last_report report_until report_ids fingerprint lists_crc expires_at"
    ).split()

    @pytest.fixture
    def damaged(self, store: TaskStore, worker: Worker, dynamodb: Any) -> list[str]:
        """An item for each attribute that could be missing or anything, and the ids of all."""
        made: dict[str, Any] = {}
        for status, names in (
            ("processing", self.NAMES),
            ("completed", ["status", "events", "vendors"]),
        ):
            good = self.GOOD | {"status": {"S": status}}
            for name in names:
                odd = {f"{status}-{name}-{kind}": {name: value} for kind, value in self.ODD.items()}
                made |= {task_id: good | change for task_id, change in odd.items()}
                without = {key: value for key, value in good.items() if key != name}
                made[f"{status}-{name}-missing"] = without
        puts = [
            {"PutRequest": {"Item": item | {"id": {"S": task_id}}}}
            for task_id, item in made.items()
        ]
        for at in range(0, len(puts), 25):
            dynamodb.batch_write_item(RequestItems={store.table_name: puts[at : at + 25]})
        return [*made, said(post())["id"]]

    def unknown(self, damaged: list[str]) -> set[str]:
        """Those with a status that there is not: the one thing that a list leaves out."""
        return {name for name in damaged if name.endswith(("-status-text", "-status-bytes"))}

    @pytest.mark.e2e
    def test_lists_show_them_all_as_json_that_a_browser_reads(self, damaged: list[str]):
        ids = [task_id for page in walk(limit="100") for task_id in page]
        assert len(ids) == len(set(ids))
        assert set(ids) == set(damaged) - self.unknown(damaged)

    @pytest.mark.e2e
    def test_lists_by_status_show_them_as_they_are_by_their_ids(self, damaged: list[str]):
        listed: dict[str, str] = {}
        for status in ("completed,error", "pending", "processing"):
            for page in pages(limit="100", status=status):
                listed |= {task["id"]: task["status"] for task in page}
        unknown = self.unknown(damaged)
        for task_id in damaged[:-1]:
            response = request("GET", f"/tasks/{task_id}")
            assert response["statusCode"] == 200, task_id
            task = json.loads(response["body"], parse_constant=no_constant)
            assert listed.get(task_id) == (None if task_id in unknown else task["status"])
            assert task_id in unknown or task["status"] in ("completed", "error")

    @pytest.mark.parametrize("vendors", ["[NaN]", "[1e999]", "[Infinity]", "[", "{}", "", "7"])
    def test_vendors_that_are_no_list_of_json_are_none(
        self, store: TaskStore, dynamodb: Any, vendors: str
    ):
        item = self.GOOD | {"id": {"S": "old"}, "status": {"S": "completed"}}
        dynamodb.put_item(TableName=store.table_name, Item=item | {"vendors": {"S": vendors}})
        (listed,) = json.loads(request("GET")["body"], parse_constant=no_constant)
        assert listed["vendors"] == read("old")["vendors"] == []

    @pytest.mark.parametrize("lives", [True, False])
    @pytest.mark.parametrize("kind", [*ODD, "missing"])
    def test_what_is_said_of_a_waiting_one_is_what_was_done(
        self, store: TaskStore, allowed: None, dynamodb: Any, lives: bool, kind: str
    ):
        now = datetime.now(UTC).timestamp()
        good = self.GOOD | {"status": {"S": "pending"}}
        good["created_at"] = good["updated_at"] = {"S": timestamp(now)}
        good["deadline"] = {"S": timestamp(now + (60 if lives else -60))}
        table = store.table_name
        for name in "chunks updated_at created_at report_hash status".split():
            odd = {key: value for key, value in good.items() if key != name}
            odd |= {name: self.ODD[kind]} if kind in self.ODD else {}
            if name == "created_at" and kind not in ("text", "missing"):
                continue  # DynamoDB refuses it, for the index
            for ask in (cancel, delete, lambda one: request("GET", f"/tasks/{one}"), report_on):
                dynamodb.put_item(TableName=table, Item=odd | {"id": {"S": "odd"}})
                status = ask("odd")["statusCode"]
                assert status < 500, (name, ask)
                if ask is delete and status == 204:
                    assert request("GET", "/tasks/odd")["statusCode"] == 404

    def test_one_that_no_write_can_end_is_not_said_to_be_deleted(
        self, store: TaskStore, allowed: None, dynamodb: Any
    ):
        item = self.GOOD | {"id": {"S": "odd"}, "status": {"S": "pending"}, "events": {"N": "7"}}
        dynamodb.put_item(TableName=store.table_name, Item=item)
        assert code_of(delete("odd")) == (409, "task_not_final")
        assert read("odd")["status"] == "error"
