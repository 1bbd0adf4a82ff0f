"""Who cancels, deletes and reports, and what each is answered."""

import json
from typing import Any

import pytest

import dynamodb_helpers
from tests.product.lambda_function.function import DESCRIPTION, TOKEN, Answer, Api, error_of


class TestCancel:
    def test_a_pending_task_is_200_ended_and_no_worker_is_told(self, api: Api):
        task_id = api.create()
        answer = api.cancel(task_id)
        assert [line["outcome"] for line in api.log()] == ["accepted", "cancelled"]
        assert (answer.status, answer.body) == (200, api.read(task_id))
        assert (answer.body["status"], answer.body["error_code"]) == ("error", "cancelled")
        assert "Retry-After" not in answer.headers
        assert [set(event) for event in api.worker.events] == [
            {"task_id", "description", "created_at"}
        ]

    def test_a_running_task_is_202_and_its_worker_is_told_to_stop_each_time(self, api: Api):
        task_id = api.create()
        api.claim(task_id)
        tag = api.get(task_id).headers["ETag"]
        answer = api.cancel(task_id)
        assert (answer.status, answer.body) == (202, api.read(task_id))
        assert answer.body["status"] == "processing"
        assert "cancel_requested_at" in answer.body
        assert answer.headers["Retry-After"] == "1"
        # Nothing else has changed, but a poller with the old tag has to see it.
        after = api.get(task_id, if_none_match=tag)
        assert after.status == 200
        assert after.headers["ETag"] == answer.headers["ETag"] != tag
        api.log()
        api.worker.failure = error_of("TooManyRequestsException")
        again = api.cancel(task_id)
        assert (again.status, again.body) == (202, answer.body)
        assert [line.get("outcome", line["message"]) for line in api.log()] == [
            "stop not sent",
            "stopping",
        ]
        assert api.worker.events[1:] == [{"stop": task_id}] * 2

    def test_a_task_that_has_ended_otherwise_is_409(self, api: Api):
        task_id = api.create()
        api.complete(task_id)
        assert api.cancel(task_id).error == "409 task_ended"
        assert api.read(task_id)["status"] == "completed"


class TestDelete:
    def test_a_task_that_has_ended_is_204_and_gone_and_its_key_410_whatever_the_body(
        self, api: Api
    ):
        task_id = api.create(idempotency_key="k")
        api.complete(task_id, agent_response="x" * 500_000)
        api.log()
        assert api.delete(task_id).status == 204
        assert [line["outcome"] for line in api.log()] == ["deleted"]
        assert api.get(task_id).error == "404 task_not_found"
        for description in (DESCRIPTION, "Something else"):
            assert api.post(description, idempotency_key="k").error == "410 task_deleted"
        assert len(api.worker.events) == 1
        assert api.items() == [{"id": {"S": task_id}, "status": {"S": "deleted"}}]


class TestWhoMayCancelAndDelete:
    """Where nobody signs in, everybody is the same, and could wipe everybody's tasks."""

    @pytest.mark.parametrize("said_by_operator", ["", "false", "yes"])
    def test_without_an_authorizer_it_is_403_unless_the_operator_says_so(
        self, api: Api, monkeypatch: pytest.MonkeyPatch, said_by_operator: str
    ):
        monkeypatch.setenv("PUBLIC_CANCEL_AND_DELETE", said_by_operator)
        task_id = api.create()
        assert api.cancel(task_id).error == api.delete(task_id).error == "403 not_allowed"
        assert api.read(task_id)["status"] == "pending"

    def test_who_signs_in_may_and_nobody_else(self, api: Api, monkeypatch: pytest.MonkeyPatch):
        task_id = api.create(user="a")
        for ask in (api.cancel, api.delete):
            for other in (ask(task_id), ask(task_id, user="b"), ask("x"), ask("x~")):
                assert other.error == "404 task_not_found"
        monkeypatch.delenv("PUBLIC_CANCEL_AND_DELETE")
        assert api.cancel(task_id, user="a").status == 200
        assert api.delete(task_id, user="a").status == 204


class TestReports:
    @pytest.fixture
    def task_id(self, api: Api) -> str:
        """A task whose agent has said that it works on and reports."""
        task_id = api.create()
        api.store.accept_task(api.claim(task_id, TOKEN))
        api.log()
        return task_id

    def send(self, api: Api, task_id: str, body: Any, authorization: str | None = None) -> Answer:
        """Sends a report as it is."""
        headers: Any = {} if authorization is None else {"authorization": authorization}
        return api.request("POST", f"/tasks/{task_id}/reports", body, **headers)

    def test_what_it_says_is_in_the_timeline_and_it_may_go_on(self, api: Api, task_id: str):
        answer = api.report(task_id, messages=["Found two ", " ", "E-mailed Ann"])
        assert (answer.status, answer.body) == (200, {"status": "processing", "continue": True})
        last = [one["message"] for one in api.read(task_id)["events"][-2:]]
        assert last == ["Found two", "E-mailed Ann"]

    def test_an_answer_completes_the_task_and_is_logged_once(self, api: Api, task_id: str):
        vendors = [{"name": "Ann", "email": "ann@x"}]
        answer = {"response": "Done.", "vendors": vendors, "emails": [{"recipient": "ann@x"}]}
        for _ in range(2):
            told = api.report(task_id, answer=answer).body
            assert told == {"status": "completed", "continue": False}
        task = api.read(task_id)
        assert task["agent_response"] == "Done."
        assert task["vendors"] == [vendors[0] | {"emails": [{"recipient": "ann@x"}]}]
        assert task["emails_sent"] == 1
        (line,) = api.log()
        assert (line["outcome"], line["task_id"]) == ("completed", task_id)
        assert 0 <= line["duration_ms"] < 60_000

    def test_what_the_task_does_not_show_of_an_answer_is_in_the_log(self, api: Api, task_id: str):
        emails = [{"recipient": "bob@x", "body": f"Hello. {TOKEN}"}]
        vendors = [{"name": {"first": "Ivy"}}]
        api.report(task_id, answer={"response": "Done.", "emails": emails, "vendors": vendors})
        assert api.read(task_id)["vendors"] == [{"emails": []}]
        logged = {line["message"]: line for line in api.log()}
        line = logged["e-mails to nobody among the vendors"]
        assert line["task_id"] == task_id
        assert json.loads(line["text"]) == [{"recipient": "bob@x", "body": "Hello. [token]"}]
        line = logged["vendors and quotes that are not shown as the agent sent them"]
        assert json.loads(line["text"]) == [{"name": {"first": "Ivy"}, "emails": []}]

    @pytest.mark.parametrize(
        "fields, message, response",
        [
            ({"error": "No painter."}, "No painter.", ""),
            ({"error": "No painter.", "answer": {"response": "Half."}}, "No painter.", "Half."),
            ({"error": "No painter.", "answer": "Half."}, "No painter.", "Half."),
            ({"error": ""}, "The agent reported a failure.", ""),
            ({"answer": {"error": "No painter."}}, "No painter.", ""),
            ({"answer": ""}, "The agent ended without an answer.", ""),
            ({"answer": {}}, "The agent ended without an answer.", ""),
        ],
    )
    def test_a_failure_ends_the_task_in_the_agents_words(
        self, api: Api, task_id: str, fields: Any, message: str, response: str
    ):
        assert api.report(task_id, **fields).body == {"status": "error", "continue": False}
        task = api.read(task_id)
        assert message in task["error_message"]
        assert task["error_code"] == "agent_failed"
        assert task["agent_response"] == response
        (line,) = api.log()
        assert (line["level"], line["error_code"]) == ("ERROR", "agent_failed")

    def test_after_the_end_it_is_told_to_stop_and_its_answer_is_in_the_log(
        self, api: Api, task_id: str
    ):
        api.report(task_id, answer="First.")
        fields: Any = {"report_id": "r-2", "answer": "Second.", "error": "No.", "messages": ["Hm"]}
        assert api.report(task_id, **fields).body == {"status": "completed", "continue": False}
        assert api.read(task_id)["agent_response"] == "First."
        _, late = api.log()
        assert late["message"] == "answer came too late"
        assert json.loads(late["text"]) == fields

    def test_of_a_cancelled_task_it_is_told_to_stop_and_of_a_deleted_one_it_is_401(
        self, api: Api, task_id: str
    ):
        api.cancel(task_id)
        assert api.report(task_id).body == {"status": "processing", "continue": False}
        end = api.report(task_id, report_id="end", answer="As far as I came.")
        assert end.body == {"status": "error", "continue": False}
        task = api.read(task_id)
        assert (task["error_code"], task["agent_response"]) == ("cancelled", "As far as I came.")
        assert api.log()[-1]["outcome"] == "cancelled"
        api.delete(task_id)
        assert api.report(task_id).error == "401 invalid_token"

    def test_before_the_worker_took_note_it_is_409_and_to_come_again(self, api: Api):
        task_id = api.create()
        claim = api.claim(task_id, TOKEN)
        answer = api.report(task_id, answer="Done.")
        assert answer.error == "409 not_accepted"
        assert answer.headers["Retry-After"] == "1"
        api.store.accept_task(claim)
        assert api.report(task_id, messages=["now"]).body["continue"]

    def test_too_many_at_once_are_503(
        self, api: Api, task_id: str, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr(dynamodb_helpers, "REPORT_ATTEMPTS", 0)
        assert api.report(task_id).error == "503 busy"

    @pytest.mark.parametrize(
        "authorization",
        [None, TOKEN, "Bearer", "Bearer ", f"Basic {TOKEN}", f"Bearer x{TOKEN}", "Bearer \xff"],
    )
    def test_a_wrong_token_is_401_before_anything_else_is_judged(
        self, api: Api, task_id: str, authorization: str | None
    ):
        before = api.items()
        for body in ('{"report_id": "r"}', "{", None):
            answer = self.send(api, task_id, body, authorization)
            assert answer.error == "401 invalid_token"
            assert answer.headers["WWW-Authenticate"] == "Bearer"
        assert api.items() == before

    def test_the_scheme_is_read_in_any_case_and_no_user_is_needed(self, api: Api, task_id: str):
        api.user = "somebody"
        body = '{"report_id": "r"}'
        assert self.send(api, task_id, body, f"bEARER  {TOKEN} ").status == 200

    def test_a_token_is_good_for_its_own_task_alone(self, api: Api, task_id: str):
        other = api.create()
        assert api.report(other).error == "401 invalid_token"
        assert api.report(other, token="").error == "401 invalid_token"
        api.store.accept_task(api.claim(other, "f" * 32))
        assert api.report(other).error == "401 invalid_token"
        assert api.report(other, token="f" * 32).status == 200

    def test_what_is_not_there_is_401_like_a_wrong_token(self, api: Api):
        """Else whoever has no token could find out which tasks there are."""
        known = api.report(api.create())
        assert known.error == "401 invalid_token"
        for task_id in ("x", "x~", "x#0"):
            assert api.report(task_id) == known

    @pytest.mark.parametrize(
        "body",
        [
            "{",
            "[]",
            "{}",
            '{"report_id": ""}',
            '{"report_id": 7}',
            '{"report_id": "a b"}',
            '{"report_id": "é"}',
            json.dumps({"report_id": "x" * 101}),
            '{"report_id": "r", "messages": "one"}',
            '{"report_id": "r", "messages": [1]}',
            '{"report_id": "r", "answer": []}',
            '{"report_id": "r", "error": {}}',
            """{"report_id": "r", "answer": "{'a': <x.Y object at 0x7f>, 'v': 'Ann: $250'}"}""",
            "[" * 2_000,
            "\ud800",
        ],
    )
    def test_one_that_cannot_be_used_is_400_and_the_task_lives_on(
        self, api: Api, task_id: str, body: str
    ):
        before = api.items()
        assert self.send(api, task_id, body, f"Bearer {TOKEN}").status == 400
        assert api.items() == before
        assert ("Ann: $250" in body) == ("Ann: $250" in str(api.log()))

    @pytest.mark.e2e
    def test_over_4_mib_it_is_413_and_at_4_mib_it_is_cut_and_kept(self, api: Api, task_id: str):
        frame = len(json.dumps({"report_id": "r-1", "answer": ""}))
        longest = "x" * (4 * 1024 * 1024 - frame)
        assert api.report(task_id, answer=f"{longest}x").error == "413 body_too_large"
        assert api.report(task_id, answer=longest).body["status"] == "completed"
        assert api.read(task_id)["agent_response_truncated"] is True

    def test_its_token_is_nowhere_to_be_seen(self, api: Api, task_id: str):
        api.report(task_id, messages=[f"my token is {TOKEN}"])
        for number in range(2):
            answer = {"response": f"{TOKEN}!", "vendors": [{TOKEN: [TOKEN]}], "quotes": [TOKEN]}
            api.report(task_id, report_id=f"e-{number}", answer=answer)
        assert TOKEN not in f"{api.items()} {api.log()}"
        assert "my token is [token]" in [one["message"] for one in api.read(task_id)["events"]]

    def test_who_ends_a_silent_one_has_its_session_stopped(self, api: Api, task_id: str):
        api.age_task(task_id, 601)
        for _ in range(2):
            assert api.read(task_id)["error_code"] == "agent_lost"
        assert api.worker.events[1:] == [{"stop": task_id}]
