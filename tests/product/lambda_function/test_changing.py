"""Who cancels, deletes and reports, and what each is answered."""

import json
from typing import Any

import pytest

import dynamodb_helpers
from dynamodb_helpers import TaskStore
from tests.product.lambda_function.function import (
    DESCRIPTION,
    TOKEN,
    Worker,
    cancel,
    claim,
    code_of,
    complete,
    delete,
    error_of,
    items,
    let_pass,
    log_lines,
    post,
    read,
    report,
    request,
    said,
)
from valro.store_errors import TaskNotClaimable


@pytest.mark.usefixtures("allowed")
class TestCancel:
    def test_a_pending_task_is_200_ended_and_no_worker_is_told(
        self, store: TaskStore, worker: Worker
    ):
        task_id = said(post())["id"]
        response = cancel(task_id)
        assert response["statusCode"] == 200
        task = said(response)
        assert task == read(task_id)
        assert (task["status"], task["error_code"]) == ("error", "cancelled")
        assert "Retry-After" not in response["headers"]
        assert [set(event) for event in worker.events] == [{"task_id", "description", "created_at"}]
        with pytest.raises(TaskNotClaimable):
            claim(store, task_id)

    def test_a_running_task_is_202_and_its_worker_is_told_to_stop(
        self, store: TaskStore, worker: Worker
    ):
        task_id = said(post())["id"]
        claim(store, task_id)
        before = request("GET", f"/tasks/{task_id}")
        response = cancel(task_id)
        assert response["statusCode"] == 202
        assert said(response) == read(task_id)
        assert said(response)["status"] == "processing"
        assert "cancel_requested_at" in said(response)
        assert response["headers"]["Retry-After"] == "1"
        assert worker.events[1:] == [{"stop": task_id}]
        # Nothing else has changed, but a poller with the old tag has to see it.
        tag = before["headers"]["ETag"]
        after = request("GET", f"/tasks/{task_id}", if_none_match=tag)
        assert after["statusCode"] == 200
        assert after["headers"]["ETag"] == response["headers"]["ETag"] != tag

    def test_again_is_202_again_and_tells_the_worker_again(self, store: TaskStore, worker: Worker):
        task_id = said(post())["id"]
        claim(store, task_id)
        assert said(cancel(task_id)) == said(cancel(task_id))
        assert worker.events[1:] == [{"stop": task_id}] * 2

    def test_a_stop_that_cannot_be_sent_is_202_still(
        self, store: TaskStore, worker: Worker, capsys: pytest.CaptureFixture[str]
    ):
        task_id = said(post())["id"]
        claim(store, task_id)
        worker.failure = error_of("TooManyRequestsException")
        assert cancel(task_id)["statusCode"] == 202
        assert "stop not sent" in [line["message"] for line in log_lines(capsys)]

    def test_a_task_that_has_ended_otherwise_is_409(self, store: TaskStore, worker: Worker):
        task_id = said(post())["id"]
        complete(store, task_id)
        assert code_of(cancel(task_id)) == (409, "task_ended")
        assert read(task_id)["status"] == "completed"

    def test_what_is_not_there_or_somebody_elses_is_404(self, worker: Worker):
        task_id = said(post(user="a"))["id"]
        for response in (cancel(task_id), cancel(task_id, user="b"), cancel("x"), cancel("x~")):
            assert code_of(response) == (404, "task_not_found")
        assert cancel(task_id, user="a")["statusCode"] == 200


@pytest.mark.usefixtures("allowed")
class TestDelete:
    def test_a_task_that_has_ended_is_204_and_gone(self, store: TaskStore, worker: Worker):
        task_id = said(post())["id"]
        complete(store, task_id, agent_response="x" * 500_000)
        response = delete(task_id)
        assert response["statusCode"] == 204
        assert "body" not in response
        assert items(store) == [{"id": {"S": task_id}, "status": {"S": "deleted"}}]
        for after in (request("GET", f"/tasks/{task_id}"), cancel(task_id), delete(task_id)):
            assert code_of(after) == (404, "task_not_found")
        assert said(request("GET")) == []

    def test_its_key_is_410_whatever_the_body_and_starts_nothing(
        self, store: TaskStore, worker: Worker
    ):
        task_id = said(post(idempotency_key="k"))["id"]
        complete(store, task_id)
        delete(task_id)
        for description in (DESCRIPTION, "Something else"):
            assert code_of(post(description, idempotency_key="k")) == (410, "task_deleted")
        assert len(worker.events) == 1
        assert items(store) == [{"id": {"S": task_id}, "status": {"S": "deleted"}}]

    def test_somebody_elses_is_404(self, worker: Worker):
        task_id = said(post(user="a"))["id"]
        cancel(task_id, user="a")
        for response in (delete(task_id), delete(task_id, user="b")):
            assert code_of(response) == (404, "task_not_found")
        assert delete(task_id, user="a")["statusCode"] == 204


class TestWhoMayCancelAndDelete:
    """Where nobody signs in, everybody is the same, and could wipe everybody's tasks."""

    @pytest.mark.parametrize("said_by_operator", ["", "false", "1", "yes"])
    def test_without_an_authorizer_it_is_403_unless_the_operator_says_so(
        self, worker: Worker, monkeypatch: pytest.MonkeyPatch, said_by_operator: str
    ):
        monkeypatch.setenv("PUBLIC_CANCEL_AND_DELETE", said_by_operator)
        task_id = said(post())["id"]
        assert code_of(cancel(task_id)) == (403, "not_allowed")
        assert code_of(delete(task_id)) == (403, "not_allowed")
        assert read(task_id)["status"] == "pending"

    def test_who_signs_in_may(self, worker: Worker, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.delenv("PUBLIC_CANCEL_AND_DELETE", raising=False)
        task_id = said(post(user="a"))["id"]
        assert cancel(task_id, user="a")["statusCode"] == 200
        assert delete(task_id, user="a")["statusCode"] == 204


class TestReports:
    @pytest.fixture
    def task_id(self, store: TaskStore, worker: Worker) -> str:
        """A task whose agent has said that it works on and reports."""
        task_id: str = said(post())["id"]
        store.accept_task(claim(store, task_id, TOKEN))
        return task_id

    def test_what_it_says_is_in_the_timeline_and_it_may_go_on(self, task_id: str):
        response = report(task_id, messages=["Found two ", " ", "E-mailed Ann"])
        assert response["statusCode"] == 200
        assert said(response) == {"status": "processing", "continue": True}
        last = [one["message"] for one in read(task_id)["events"][-2:]]
        assert last == ["Found two", "E-mailed Ann"]

    def test_an_answer_completes_the_task_and_is_logged_once(
        self, task_id: str, capsys: pytest.CaptureFixture[str]
    ):
        vendors = [{"name": "Ann", "email": "ann@x"}]
        answer = {"response": "Done.", "vendors": vendors, "emails": [{"recipient": "ann@x"}]}
        for _ in range(2):
            response = report(task_id, answer=answer)
            assert said(response) == {"status": "completed", "continue": False}
        task = read(task_id)
        assert task["agent_response"] == "Done."
        assert task["vendors"] == [vendors[0] | {"emails": [{"recipient": "ann@x"}]}]
        assert task["emails_sent"] == 1
        (line,) = [one for one in log_lines(capsys) if one.get("outcome") == "completed"]
        assert line["task_id"] == task_id
        assert 0 <= line["duration_ms"] < 60_000

    def test_an_email_to_no_vendor_is_in_the_log(
        self, task_id: str, capsys: pytest.CaptureFixture[str]
    ):
        """The task does not show it, and nobody else has it."""
        emails = [{"recipient": "bob@x", "body": f"Hello. {TOKEN}"}]
        report(task_id, answer={"response": "Done.", "emails": emails})
        (line,) = [one for one in log_lines(capsys) if "nobody among the vendors" in one["message"]]
        assert line["task_id"] == task_id
        assert json.loads(line["text"]) == [{"recipient": "bob@x", "body": "Hello. [token]"}]

    def test_a_vendor_that_is_shown_otherwise_is_in_the_log_once(
        self, task_id: str, capsys: pytest.CaptureFixture[str]
    ):
        report(task_id, answer={"vendors": [{"name": {"first": "Ivy"}}], "quotes": [{"price": 1}]})
        for _ in range(2):
            assert (
                read(task_id)["vendors"] == said(request("GET"))[0]["vendors"] == [{"emails": []}]
            )
        (line,) = [one for one in log_lines(capsys) if "not shown as" in one["message"]]
        assert json.loads(line["text"]) == [{"name": {"first": "Ivy"}, "emails": []}]

    def test_a_report_of_a_megabyte_is_logged_in_few_lines(
        self, task_id: str, capsys: pytest.CaptureFixture[str]
    ):
        report(task_id, answer={"response": "Done.", "emails": [0] * 400_000})
        assert len(log_lines(capsys)) < 100

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
        self, task_id: str, fields: dict[str, Any], message: str, response: str
    ):
        assert said(report(task_id, **fields)) == {"status": "error", "continue": False}
        task = read(task_id)
        assert message in task["error_message"]
        assert task["error_code"] == "agent_failed"
        assert task.get("agent_response", "") == response

    def test_after_the_end_it_is_told_to_stop_and_its_answer_is_in_the_log(
        self, task_id: str, capsys: pytest.CaptureFixture[str]
    ):
        report(task_id, answer="First.")
        response = report(task_id, report_id="r-2", answer="Second.", error="No.", messages=["Hm"])
        assert said(response) == {"status": "completed", "continue": False}
        assert read(task_id)["agent_response"] == "First."
        (late,) = [one for one in log_lines(capsys) if one["message"] == "answer came too late"]
        fields = {"report_id": "r-2", "answer": "Second.", "error": "No.", "messages": ["Hm"]}
        assert json.loads(late["text"]) == fields

    def test_of_a_cancelled_task_it_is_told_to_stop(self, task_id: str, allowed: None):
        cancel(task_id)
        assert said(report(task_id)) == {"status": "processing", "continue": False}
        response = report(task_id, report_id="end", answer="As far as I came.")
        assert said(response) == {"status": "error", "continue": False}
        task = read(task_id)
        assert (task["error_code"], task["agent_response"]) == ("cancelled", "As far as I came.")

    def test_of_a_deleted_task_it_is_401(self, task_id: str, allowed: None):
        report(task_id, answer="Done.")
        delete(task_id)
        assert code_of(report(task_id)) == (401, "invalid_token")

    def test_before_the_worker_took_note_it_is_409_and_to_come_again(
        self, store: TaskStore, worker: Worker
    ):
        task_id = said(post())["id"]
        held = claim(store, task_id, TOKEN)
        response = report(task_id, messages=["too soon"], answer="Done.")
        assert code_of(response) == (409, "not_accepted")
        assert response["headers"]["Retry-After"] == "1"
        store.accept_task(held)
        assert said(report(task_id, messages=["now"]))["continue"]
        assert [one["message"] for one in read(task_id)["events"]].count("too soon") == 0

    def test_too_many_at_once_are_503(self, task_id: str, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(dynamodb_helpers, "REPORT_ATTEMPTS", 0)
        assert code_of(report(task_id)) == (503, "busy")

    @pytest.mark.parametrize(
        "authorization",
        [None, "", TOKEN, "Bearer", "Bearer ", f"Basic {TOKEN}", f"Bearer x{TOKEN}", "Bearer \xff"],
    )
    def test_a_wrong_token_is_401_before_anything_else_is_judged(
        self, store: TaskStore, task_id: str, authorization: str | None
    ):
        before = items(store)
        headers: Any = {} if authorization is None else {"authorization": authorization}
        for body in ('{"report_id": "r"}', "{", None):
            response = request("POST", f"/tasks/{task_id}/reports", body, **headers)
            assert code_of(response) == (401, "invalid_token")
            assert response["headers"]["WWW-Authenticate"] == "Bearer"
        assert items(store) == before

    def test_an_answer_that_cannot_be_read_is_400_and_in_the_log(
        self, task_id: str, capsys: pytest.CaptureFixture[str]
    ):
        answer = "{'a': <x.Y object at 0x7f>, 'v': 'Ann: $250'}"
        assert code_of(report(task_id, answer=answer)) == (400, "invalid_report")
        assert "Ann: $250" in capsys.readouterr().err

    def test_a_task_that_nobody_may_report_on_is_401(self, store: TaskStore, worker: Worker):
        task_id = said(post())["id"]
        assert code_of(report(task_id)) == (401, "invalid_token")
        assert code_of(report(task_id, token="")) == (401, "invalid_token")
        claim(store, task_id)
        assert code_of(report(task_id)) == (401, "invalid_token")

    def test_another_tasks_token_is_401(self, store: TaskStore, worker: Worker, task_id: str):
        other = said(post())["id"]
        store.accept_task(claim(store, other, "f" * 32))
        assert code_of(report(other)) == (401, "invalid_token")
        assert report(other, token="f" * 32)["statusCode"] == 200

    def test_the_scheme_is_read_in_any_case_and_no_user_is_needed(self, task_id: str):
        body = '{"report_id": "r"}'
        path = f"/tasks/{task_id}/reports"
        response = request("POST", path, body, user="somebody", authorization=f"bEARER  {TOKEN} ")
        assert response["statusCode"] == 200

    @pytest.mark.parametrize("task_id", ["x", "x~", "x#0"])
    def test_what_is_not_there_is_401_like_a_wrong_token(self, worker: Worker, task_id: str):
        """Else whoever has no token could find out which tasks there are."""
        known = said(post())["id"]
        assert report(task_id) == report(known)
        assert code_of(report(task_id)) == (401, "invalid_token")

    @pytest.mark.parametrize(
        "body",
        [
            "{",
            "[]",
            "7",
            "{}",
            '{"report_id": ""}',
            '{"report_id": 7}',
            '{"report_id": "a b"}',
            '{"report_id": "é"}',
            json.dumps({"report_id": "x" * 101}),
            '{"report_id": "r", "messages": "one"}',
            '{"report_id": "r", "messages": [1]}',
            '{"report_id": "r", "messages": null}',
            '{"report_id": "r", "answer": []}',
            '{"report_id": "r", "answer": 7}',
            '{"report_id": "r", "error": {}}',
            "[" * 2_000,
            "\ud800",
        ],
    )
    def test_one_that_cannot_be_used_is_400_and_the_task_lives_on(
        self, store: TaskStore, task_id: str, body: str
    ):
        before = items(store)
        headers: Any = {"authorization": f"Bearer {TOKEN}"}
        response = request("POST", f"/tasks/{task_id}/reports", body, **headers)
        assert response["statusCode"] == 400
        assert items(store) == before

    @pytest.mark.e2e
    def test_over_4_mib_it_is_413_and_at_4_mib_it_is_cut_and_kept(self, task_id: str):
        frame = len(json.dumps({"report_id": "r-1", "answer": ""}))
        longest = "x" * (4 * 1024 * 1024 - frame)
        assert code_of(report(task_id, answer=f"{longest}x")) == (413, "body_too_large")
        assert said(report(task_id, answer=longest))["status"] == "completed"
        assert read(task_id)["agent_response_truncated"] is True

    def test_what_no_browser_can_read_in_an_answer_becomes_something_that_it_can(
        self, task_id: str
    ):
        report(task_id, answer={"vendors": [{"price": float("nan"), "name": "\ud800"}]})
        assert read(task_id)["vendors"] == [{"name": "\ufffd", "emails": []}]

    def test_its_token_is_nowhere_to_be_seen(
        self, store: TaskStore, task_id: str, capsys: pytest.CaptureFixture[str]
    ):
        report(task_id, messages=[f"my token is {TOKEN}"])
        for number in range(2):
            answer = {"response": f"{TOKEN}!", "vendors": [{TOKEN: [TOKEN]}], "quotes": [TOKEN]}
            report(task_id, report_id=f"e-{number}", answer=answer)
        assert TOKEN not in str(items(store))
        assert TOKEN not in capsys.readouterr().err
        assert "my token is [token]" in [one["message"] for one in read(task_id)["events"]]

    def test_who_ends_a_silent_one_has_its_session_stopped(
        self, store: TaskStore, worker: Worker, task_id: str
    ):
        let_pass(store, task_id, 601)
        assert read(task_id)["error_code"] == "agent_lost"
        read(task_id)
        assert worker.events[1:] == [{"stop": task_id}]
