"""What GET answers: one task, a poll, a page of tasks, and items that nobody expects."""

import itertools
import time
from typing import Any, ClassVar

import pytest

from tests.product.dynamodb_helpers.fakes import Network
from tests.product.lambda_function.function import ANSWER, DESCRIPTION, Api, error_of
from valro import dynamodb_pages
from valro.tasks import PUBLIC_FIELDS, PUBLIC_OWNER, Outcome, timestamp


class TestGetOne:
    def test_a_task_shows_what_is_public_and_nothing_else(self, api: Api):
        task_id = api.create(idempotency_key="k-1")
        task = api.read(task_id)
        assert set(task) == {*PUBLIC_FIELDS}
        assert (task["vendors"], task["quotes"], task["emails_sent"]) == ([], [], 0)
        api.complete(task_id)
        task = api.read(task_id)
        assert set(task) == {*PUBLIC_FIELDS, "agent_response", "started_at", "completed_at"}
        assert task["status"] == "completed"
        assert {name: task[name] for name in ANSWER} == ANSWER | {
            "vendors": [{"name": "A", "emails": []}]
        }
        assert [list(line) for line in task["events"]] == [["ts", "message", "type"]] * 4

    def test_the_largest_answer_is_within_lambdas_response(self, api: Api):
        """With a full timeline of the dearest characters beside it."""
        task_id = api.create("é" * 4000)
        claim = api.claim(task_id)
        for _ in range(201):
            claim.timeline.add_progress(timestamp(0), "é" * 1000)
        api.store.end_task(claim, Outcome.of({"agent_response": "é" * 3_000_000}))
        task = api.read(task_id)
        assert task["agent_response_truncated"] is True
        assert len(task["agent_response"]) > 900_000

    @pytest.mark.parametrize("task_id", ["x", "a#0", "ä"])
    def test_what_is_not_there_is_404_whatever_the_client_has(self, api: Api, task_id: str):
        assert api.get(task_id, if_none_match="*").error == "404 task_not_found"

    def test_somebody_elses_task_is_404(self, api: Api):
        task_id = api.create(user="a")
        assert api.get(task_id, user="b").status == api.get(task_id).status == 404
        assert api.read(task_id, user="a")["id"] == task_id

    @pytest.mark.parametrize(
        "code, may_have_acted", [("dispatch_failed", False), ("worker_lost", True), ("", True)]
    )
    def test_an_error_of_an_older_version_says_whether_the_agent_may_have_acted(
        self, api: Api, code: str, may_have_acted: bool
    ):
        item = {"id": "old-1", "owner": PUBLIC_OWNER, "status": "error", "created_at": "2025"}
        item |= {"error_code": code} if code else {}
        api.put({name: {"S": value} for name, value in item.items()})
        for task in (api.read("old-1"), api.request("GET").body[0]):
            assert task["may_have_acted"] is may_have_acted
            assert {"started_at", "completed_at"}.isdisjoint(task)


class TestPolling:
    @pytest.mark.parametrize(
        "age, seconds",
        [(0, "1"), (9, "1"), (11, "2"), (59, "2"), (61, "5"), (299, "5"), (301, "10")],
    )
    def test_the_older_a_task_the_longer_one_waits(self, api: Api, age: float, seconds: str):
        task_id = api.create()
        api.age_task(task_id, age)
        assert api.get(task_id).headers["Retry-After"] == seconds

    @pytest.mark.parametrize("form", ["{}", "W/{}", '"other", {}', '{} , W/"x"', "*"])
    def test_a_client_that_has_it_gets_304(self, api: Api, form: str):
        task_id = api.create()
        etag = api.get(task_id).headers["ETag"]
        assert etag.startswith('"')
        assert etag.endswith('"')
        answer = api.get(task_id, if_none_match=form.format(etag))
        assert answer.status == 304
        assert answer.headers["ETag"] == etag
        assert answer.headers["Retry-After"] == "1"

    @pytest.mark.parametrize("tags", ["", '"other"', "nonsense", ","])
    def test_a_client_that_has_something_else_gets_the_task(self, api: Api, tags: str):
        assert api.read(api.create(), if_none_match=tags)["status"] == "pending"

    def test_every_change_changes_the_tag(self, api: Api):
        task_id = api.create()
        tags = [api.get(task_id).headers["ETag"]]
        claim = api.claim(task_id)
        tags.append(api.get(task_id).headers["ETag"])
        claim.timeline.add_progress(claim.timeline.last_ts, "Found 3 vendors")
        api.store.record_progress(claim)
        tags.append(api.get(task_id).headers["ETag"])
        api.store.end_task(claim, Outcome.of(ANSWER))
        tags.append(api.get(task_id).headers["ETag"])
        assert len(set(tags)) == 4
        assert api.get(task_id).headers["ETag"] == tags[-1]


class TestList:
    def test_nothing_yet_is_a_bare_empty_array(self, api: Api):
        answer = api.request("GET")
        assert (answer.status, answer.body) == (200, [])
        assert "Link" not in answer.headers

    def test_the_newest_comes_first_without_its_text_and_an_overdue_one_as_ended(self, api: Api):
        ids = [api.create(f"Task {number}") for number in range(3)]
        api.complete(ids[0])
        api.age_task(ids[1], 961)
        tasks = {task["id"]: task for task in api.request("GET").body}
        assert [*tasks] == [ids[2], ids[0], ids[1]]
        assert [task["status"] for task in tasks.values()] == ["pending", "completed", "error"]
        assert tasks[ids[0]]["vendors"] == [{"name": "A", "emails": []}]
        assert set(tasks[ids[0]]) == {*PUBLIC_FIELDS, "started_at", "completed_at"}

    def test_links_lead_through_all_of_it_once(self, api: Api):
        ids = [api.create() for _ in range(5)]
        assert api.walk(limit="2") == [ids[4:2:-1], ids[2:0:-1], ids[:1]]

    def test_50_is_the_default_and_100_the_most(self, api: Api):
        for number in range(51):
            api.store.create_task(f"task-{number}", "x")
        assert [len(page) for page in api.walk()] == [50, 1]
        assert [len(page) for page in api.walk(limit="100")] == [51]

    @pytest.mark.parametrize(
        "code, values",
        [
            ("limit", ["0", "101", "-1", "1.5", "ten", "", " 5", "5,5", "٣", "9" * 5000]),
            ("cursor", ["", "é", "W10"]),
            ("status", ["", "done", "pending,", "deleted", "Pending"]),
        ],
    )
    def test_a_malformed_parameter_is_400(self, api: Api, code: str, values: list[str]):
        for value in values:
            answer = api.request("GET", query={code: value})
            assert answer.error == f"400 invalid_{code}", value

    def test_a_parameter_that_there_is_not_is_400(self, api: Api):
        for name in ("limt", "Limit", "x" * 5_000):
            assert api.request("GET", query={name: "5"}).error == "400 invalid_query"

    @pytest.mark.e2e
    @pytest.mark.parametrize("character", ["é", "\x7f"])
    def test_a_page_that_would_be_too_large_ends_early_and_links_on(self, api: Api, character: str):
        """Either takes six bytes in Lambda's response, which escapes what is not printable ASCII."""
        ids = [api.create() for _ in range(15)]
        for task_id in ids:
            api.complete(task_id, vendors=[character * 90_000])
        assert api.walk() == [ids[:4:-1], ids[4::-1]]


class TestListByStatus:
    """At most 300 tasks are looked at, and a link leads on from the last of them."""

    @pytest.fixture
    def network(self, api: Api, monkeypatch: pytest.MonkeyPatch) -> Network:
        """62 tasks of which every seventh runs, and one of the oldest two has completed."""
        assert dynamodb_pages.MOST_KEYS_LOOKED_AT == 300
        monkeypatch.setattr(dynamodb_pages, "MOST_KEYS_LOOKED_AT", 30)
        monkeypatch.setattr(dynamodb_pages, "BATCH_GET_KEYS", 20)
        start = time.time() - 700
        for number in range(62):
            status = "pending" if number % 7 else "processing"
            task = {
                "id": f"task-{number:02}",
                "owner": PUBLIC_OWNER,
                "description": "x",
                "status": "completed" if number == 1 else status,
                "created_at": timestamp(start + number),
                "deadline": timestamp(start + 3_600),
            }
            api.put({name: {"S": value} for name, value in task.items()})
        network = Network(api.store.client)
        monkeypatch.setattr(api.store, "client", network)
        return network

    def test_matches_come_newest_first_once_each_with_the_index_and_without(
        self, api: Api, network: Network
    ):
        def no_index(*_: Any) -> Any:
            raise error_of("ValidationException", "The table has no such index")

        found = api.walk(status="processing", limit="2")
        assert [*itertools.chain(*found)] == [f"task-{n:02}" for n in range(56, -1, -7)]
        assert [len(page) for page in found] == [2, 2, 2, 2, 1]
        network.always["query"] = no_index
        assert api.walk(status="processing", limit="2") == found

    def test_a_rare_one_is_found_after_empty_pages_whose_links_lead_on(
        self, api: Api, network: Network
    ):
        keys: list[int] = []

        def count(real: Any, asked: dict[str, Any]) -> Any:
            keys.extend(len(of["Keys"]) for of in asked["RequestItems"].values())
            return real(**asked)

        network.always["batch_get_item"] = count
        assert api.walk(status="completed", limit="10") == [[], [], ["task-01"]]
        # Of each page the states of 30 at most, then the matches whole.
        assert keys == [20, 10, 20, 10, 2, 1]

    @pytest.mark.usefixtures("network")
    def test_several_statuses_are_looked_for_at_once(self, api: Api):
        found = {*itertools.chain(*api.walk(status="completed,processing", limit="100"))}
        assert found == {f"task-{n:02}" for n in range(0, 62, 7)} | {"task-01"}

    def test_a_task_that_is_over_is_judged_as_it_will_be_shown(self, api: Api):
        task_id = api.create()
        api.age_task(task_id, 961)
        assert api.walk(status="pending") == [[]]
        assert api.walk(status="error") == [[task_id]]


class TestDamagedItems:
    """What an older version or a hand at the table has left there costs nobody else anything."""

    GOOD: ClassVar[dict[str, Any]] = {
        "id": {"S": "odd"},
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
        "missing": None,
    }
    NAMES = (
        "description status deadline updated_at event_seq events emails_sent vendors quotes claim "
        "cancel_requested_at last_report report_until report_ids fingerprint lists_crc expires_at"
    ).split()

    def spoilt(self, name: str, kind: str, **good: Any) -> dict[str, Any]:
        """An item of which one attribute is missing or anything."""
        item = self.GOOD | good | {name: self.ODD[kind]}
        return {key: value for key, value in item.items() if value is not None}

    @pytest.mark.e2e
    def test_lists_show_them_all_but_unknown_statuses_as_they_are_by_their_ids(self, api: Api):
        wanted = itertools.chain(
            itertools.product(["processing"], self.NAMES, self.ODD),
            itertools.product(["completed"], ["status", "events", "vendors"], self.ODD),
        )
        made = []
        for status, name, kind in wanted:
            made.append(f"{status}-{name}-{kind}")
            good = {"id": {"S": made[-1]}, "status": {"S": status}}
            api.put(self.spoilt(name, kind, **good))
        unknown = {name for name in made if name.endswith(("-status-text", "-status-bytes"))}

        ids = [*itertools.chain(*api.walk(limit="100"))]
        assert len(ids) == len(set(ids))
        assert set(ids) == set(made) - unknown
        listed: dict[str, str] = {}
        for status in ("completed,error", "pending", "processing"):
            for page in api.pages(limit="100", status=status):
                listed |= {task["id"]: task["status"] for task in page}
        for task_id in made:
            status = api.read(task_id)["status"]
            assert listed.get(task_id) == (None if task_id in unknown else status)
            assert task_id in unknown or status in ("completed", "error")

    @pytest.mark.parametrize("vendors", ["[NaN]", "[1e999]", "[Infinity]", "[", "{}", "", "7"])
    def test_vendors_that_are_no_list_of_json_are_none(self, api: Api, vendors: str):
        api.put(self.GOOD | {"status": {"S": "completed"}, "vendors": {"S": vendors}})
        (listed,) = api.request("GET").body
        assert listed["vendors"] == api.read("odd")["vendors"] == []

    @pytest.mark.parametrize("lives", [True, False])
    @pytest.mark.parametrize("kind", ODD)
    def test_what_is_said_of_a_waiting_one_is_what_was_done(self, api: Api, lives: bool, kind: str):
        now, later = timestamp(time.time()), timestamp(time.time() + (60 if lives else -60))
        times = {"created_at": {"S": now}, "updated_at": {"S": now}, "deadline": {"S": later}}
        for name in "chunks updated_at created_at report_hash status".split():
            if name == "created_at" and kind not in ("text", "missing"):
                continue  # DynamoDB refuses it, for the index
            item = self.spoilt(name, kind, **({"status": {"S": "pending"}} | times))
            for ask in (api.cancel, api.delete, api.get, api.report):
                api.put(item)
                status = ask("odd").status
                assert status < 500, (name, ask)
                if ask == api.delete and status == 204:
                    assert api.get("odd").status == 404

    def test_one_that_no_write_can_end_is_not_said_to_be_deleted(self, api: Api):
        api.put(self.GOOD | {"status": {"S": "pending"}, "events": {"N": "7"}})
        assert api.delete("odd").error == "409 task_not_final"
        assert api.read("odd")["status"] == "error"
