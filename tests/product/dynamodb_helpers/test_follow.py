"""What follows a task that has ended: one task at most, its answers, its history, its session."""

from collections.abc import Callable
from typing import Any

import pytest

from dynamodb_helpers import TaskStore
from tests.product.dynamodb_helpers.fakes import (
    ANN,
    ASKS,
    NOW,
    QUESTIONS,
    Clock,
    Network,
    after,
    asking,
    ended,
    everything,
    follow,
    resent,
    stored,
)
from valro.conversations import (
    MAX_HISTORY_BYTES,
    MAX_RESUME_BYTES,
    AnswersRequired,
    InvalidAnswers,
    follow_up,
    history_after,
    resume_with,
)
from valro.store_errors import AlreadyFollowed, TaskNotFinal, TaskNotFound
from valro.tasks import CANCELLED, NOT_STARTED, Outcome, dumps


def never_started(store: TaskStore, task_id: str) -> dict[str, Any]:
    """Ends a pending task without its agent."""
    return store.fail_pending_task(task_id, "", "No worker.", NOT_STARTED)


class TestFollow:
    def test_a_follow_up_is_a_pending_task_of_its_own_and_both_know_of_each_other_at_once(
        self, store: TaskStore, network: Network
    ):
        before = ended(store)
        network.writes.clear()
        task, created = follow(store)
        assert network.writes == ["transact_write_items"]
        assert created
        assert task["status"] == "pending"
        assert (task["follows"], task["thread_id"]) == ("task-1", "task-1")
        assert store.get_task("task-1", ANN) == before | {"followed_by": "task-2"}

    def test_a_conversation_has_one_thread_one_session_and_all_that_was_said(
        self, store: TaskStore
    ):
        ended(store, message_id="m-9")
        follow(store)
        claim = store.claim_task("task-2", "token", NOW + 600)
        store.end_task(claim, Outcome.of({"agent_response": "Booked."}))
        task, _ = follow(store, "task-3", "task-2")
        assert (task["follows"], task["thread_id"]) == ("task-2", "task-1")
        assert claim.task["session"] == task["session"] == "task-1"
        turns = [
            {"id": "task-1", "role": "user", "content": "Find me a painter"},
            {"id": "m-9", "role": "assistant", "content": "I found two."},  # the agent's own id
            {"id": "task-2", "role": "user", "content": "Book the second"},
            {"id": "task-2-answer", "role": "assistant", "content": "Booked."},
        ]
        assert claim.task["history"] == turns[:2]
        assert task["history"] == turns

    def test_a_task_that_meets_itself_when_it_is_sent_again_was_created(
        self, store: TaskStore, network: Network
    ):
        ended(store)
        network.plan("transact_write_items", resent)
        assert follow(store)[1]
        network.plan("put_item", resent)
        assert store.create_task("task-3", "x")[1]

    @pytest.mark.parametrize(
        "since",
        [
            lambda store: store.delete_task("task-1", ANN),
            lambda store: (never_started(store, "task-2"), follow(store, "task-3")),
        ],
        ids=["deleted", "followed again"],
    )
    def test_it_is_found_again_whatever_became_of_the_earlier_one(
        self, store: TaskStore, since: Callable[[TaskStore], Any]
    ):
        ended(store)
        follow(store)
        since(store)
        task, created = follow(store)
        assert not created
        assert task["follows"] == "task-1"

    @pytest.mark.parametrize("is_late", [False, True])
    @pytest.mark.parametrize(
        "act, refusal",
        [
            (lambda store: store.delete_task("task-1", ANN), TaskNotFound),
            (lambda store: follow(store, "other"), AlreadyFollowed),
        ],
        ids=["deleted", "followed"],
    )
    def test_what_cannot_be_followed_any_more_is_refused_though_it_was_read_before(
        self, store: TaskStore, network: Network, act: Any, refusal: Any, is_late: bool
    ):
        ended(store)
        if is_late:
            network.plan("transact_write_items", after(lambda: act(store)))
        else:
            act(store)
        with pytest.raises(refusal):
            follow(store)
        assert stored(store, "task-2") == {}

    @pytest.mark.parametrize(
        "make, refusal",
        [
            (lambda _: None, TaskNotFound),
            (lambda store: store.create_task("task-1", "x", "jwt#bob"), TaskNotFound),
            (lambda store: store.create_task("task-1", "x", ANN), TaskNotFinal),
            (lambda store: ended(store, interrupts=[*ASKS, {"id": "i-2"}]), AnswersRequired),
        ],
        ids=["none", "somebody else's", "running", "questions"],
    )
    def test_nor_can_what_is_not_there_runs_or_asks_more(
        self, store: TaskStore, make: Any, refusal: Any
    ):
        make(store)
        before = everything(store)
        with pytest.raises(refusal):
            follow(store)
        assert everything(store) == before

    def test_of_ids_that_no_task_can_have_there_is_none(self, store: TaskStore):
        for odd in ("", "task-1#0", "x" * 101, "é", "task-2"):
            with pytest.raises(TaskNotFound):
                follow(store, follows=odd)

    def test_a_task_that_is_over_when_it_is_read_can_be_followed(
        self, store: TaskStore, clock: Clock
    ):
        store.create_task("task-1", "x", ANN)
        clock.now += 961
        assert follow(store)[1]
        assert store.get_task("task-1", ANN)["status"] == "error"

    def test_an_answer_in_chunks_is_read_for_the_history(self, store: TaskStore):
        ended(store, agent_response=f"I found {'x' * 400_000}.")
        assert follow(store)[0]["history"][1]["content"].startswith("I found x")


class TestFollowAgain:
    """A question must not stay without an answer since its first answer never reached the agent."""

    @pytest.mark.parametrize(
        "end",
        [
            lambda store, _: never_started(store, "task-2"),
            lambda store, _: store.cancel_task("task-2", ANN),
            lambda _, clock: setattr(clock, "now", NOW + 961),
            lambda store, _: (never_started(store, "task-2"), store.delete_task("task-2", ANN)),
        ],
        ids=["dispatch failed", "cancelled while pending", "never started", "and was deleted"],
    )
    def test_a_follower_that_never_started_does_not_count(
        self, store: TaskStore, clock: Clock, end: Any
    ):
        asking(store)
        follow(store)
        end(store, clock)
        task, created = follow(store, "task-3")
        assert created
        assert task["resume"] == [
            {"interruptId": "i-1", "status": "resolved", "payload": "Book the second"}
        ]
        assert store.get_task("task-1", ANN)["followed_by"] == "task-3"

    @pytest.mark.parametrize("is_deleted", [False, True])
    @pytest.mark.parametrize("error_code", ["", "agent_failed"])
    def test_one_that_may_have_acted_does(
        self, store: TaskStore, error_code: str, is_deleted: bool
    ):
        ended(store)
        follow(store)
        claim = store.claim_task("task-2", "token", store.clock() + 600)
        store.end_task(claim, Outcome.of({}, error_code, "No."))
        if is_deleted:
            store.delete_task("task-2", ANN)
        with pytest.raises(AlreadyFollowed) as caught:
            follow(store, "task-3")
        assert caught.value.follower == "task-2"

    def test_of_two_at_once_that_take_its_place_one_is_refused(
        self, store: TaskStore, network: Network
    ):
        ended(store)
        follow(store)
        never_started(store, "task-2")
        network.plan("transact_write_items", after(lambda: follow(store, "task-3")))
        with pytest.raises(AlreadyFollowed) as caught:
            follow(store, "task-4")
        assert caught.value.follower == "task-3"
        assert stored(store, "task-4") == {}


class TestResume:
    @pytest.mark.parametrize(
        "interrupts, answers, resume",
        [
            ([], None, []),
            ([], {}, []),
            (ASKS, None, [("i-1", "Yes")]),
            (ASKS, {"i-1": {"any": [None, "JSON"]}}, [("i-1", {"any": [None, "JSON"]})]),
            (ASKS, {"i-1": None}, [("i-1", None)]),
            (ASKS, {}, [("i-1",)]),
            (QUESTIONS, {"i-2": 1}, [("i-1",), ("i-2", 1)]),
        ],
    )
    def test_what_is_answered_is_resolved_and_the_rest_is_cancelled(
        self, interrupts: Any, answers: Any, resume: list[Any]
    ):
        assert resume_with(interrupts, "Yes", answers) == [
            {"interruptId": one[0], "status": "resolved", "payload": one[1]}
            if len(one) > 1
            else {"interruptId": one[0], "status": "cancelled"}
            for one in resume
        ]

    @pytest.mark.parametrize(
        "schema, is_enough",
        [
            ({}, True),
            ({"type": "string", "minLength": 1}, True),
            ({"title": "When?"}, True),
            ({"enum": ["Tuesday", "Thursday"]}, True),
            ({"enum": ["Tuesday", 4]}, False),
            ({"type": "boolean"}, False),
            ({"type": ["string", "null"]}, False),
            ({"anyOf": [{"type": "string"}, {"type": "null"}]}, False),
            ({"properties": {"day": {"type": "string"}}}, False),
            (True, False),
        ],
    )
    def test_a_description_alone_answers_what_wants_a_text(self, schema: Any, is_enough: bool):
        interrupts = [{"id": "i-1", "response_schema": schema}]
        if is_enough:
            assert resume_with(interrupts, "Yes", None)[0]["payload"] == "Yes"
        else:
            with pytest.raises(AnswersRequired) as caught:
                resume_with(interrupts, "Yes", None)
            assert caught.value.interrupts == interrupts

    @pytest.mark.parametrize(
        "interrupts, answers",
        [
            ([], {"i-1": "Yes"}),
            (ASKS, {"i-1": "Yes", "i-2": "Yes"}),
            (ASKS, {"i-1": "\ud800"}),
            (ASKS, {"i-1": float("nan")}),
            (ASKS, {"i-1": "x" * MAX_RESUME_BYTES}),
        ],
        ids=["nothing asked", "not asked", "half a surrogate", "NaN", "too long"],
    )
    def test_answers_that_nobody_can_use_are_refused_in_words(self, interrupts: Any, answers: Any):
        earlier = {"id": "task-1", "interrupts": interrupts}
        with pytest.raises(InvalidAnswers, match="'answers' "):
            follow_up(earlier, None, "Yes", answers)


class TestHistory:
    def test_what_is_known_of_a_failure_is_what_it_answered(self):
        task = {"id": "t", "description": "x", "error_message": "Lost. It may have acted."}
        assert history_after(task)[1]["content"] == "Lost. It may have acted."
        assert history_after(task | {"agent_response": "Hm"})[1]["content"] == "Hm"

    @pytest.mark.parametrize("character", ["x", "🏡", "\x01"])
    def test_the_oldest_turns_are_cut_first_and_the_newest_at_its_end(self, character: str):
        history: list[dict[str, Any]] = []
        text = ""
        for number in range(40):
            text = f"{number} {character * 500}"
            task = {"id": f"t-{number}", "description": "x", "agent_response": text}
            history = history_after(task | {"history": history})
            assert len(dumps(history).encode()) <= MAX_HISTORY_BYTES
        assert [turn["role"] for turn in history[:2]] == ["user", "assistant"]
        assert history[-1]["content"] == text
        assert (history[0]["id"] == "t-0") == (character == "x")
        longest = {"id": "t", "description": character * 4000, "agent_response": character * 90_000}
        prompt, answer = history_after(longest | {"history": history})
        assert prompt["content"] == longest["description"]
        assert longest["agent_response"].startswith(answer["content"])
        assert len(dumps([prompt, answer]).encode()) > MAX_HISTORY_BYTES - 50


class TestSession:
    """A session that was stopped, or may still be, is never used again."""

    @pytest.mark.parametrize(
        "outcome",
        [
            Outcome.of({"agent_response": "x"}, "agent_failed", "No."),
            Outcome.of({"agent_response": "x"}, session_open=False),
            Outcome.of({"agent_response": "x"}).cancelled(),
        ],
        ids=["failed", "stopped", "cancelled"],
    )
    def test_a_task_that_did_not_complete_or_was_stopped_hands_on_none(
        self, store: TaskStore, outcome: Outcome
    ):
        store.create_task("task-1", "x", ANN)
        claim = store.claim_task("task-1", "token", NOW + 600)
        if outcome.error_code == CANCELLED:
            store.cancel_task("task-1", ANN)
        store.end_task(claim, outcome)
        assert "session" not in follow(store)[0]

    @pytest.mark.parametrize("was_to_be_stopped", [False, True])
    def test_a_follower_that_never_started_hands_it_on_unless_it_was_to_be_stopped(
        self, store: TaskStore, was_to_be_stopped: bool
    ):
        """Whoever requested its end has sent a stop, which may still be on its way."""
        ended(store)
        follow(store)
        if was_to_be_stopped:
            claim = store.claim_task("task-2", "token", NOW + 600)
            store.cancel_task("task-2", ANN)
            store.end_task(claim, Outcome.of({}, NOT_STARTED).cancelled())
        else:
            never_started(store, "task-2")
        task, _ = follow(store, "task-3")
        assert task.get("session") == (None if was_to_be_stopped else "task-1")


class TestAsking:
    def test_its_questions_are_kept_and_said_unless_it_failed(self, store: TaskStore):
        questions = [*ASKS, {"id": "i-2"}]
        task = ended(store, interrupts=questions, message_id="m-1")
        assert task["status"] == "completed"
        assert task["interrupts"] == questions
        assert [event["message"] for event in task["events"][3:]] == [
            "The agent asks: Book Lone Brush for $390?",
            "The agent asks: The agent needs an answer before it can continue",
            "Agent completed task successfully",
        ]
        failed = ended(store, "task-2", error_code="agent_failed", interrupts=questions)
        assert "interrupts" not in failed
        assert not any("asks" in event["message"] for event in failed["events"])

    def test_a_list_shows_them_and_nothing_of_history_and_answers(self, store: TaskStore):
        """Which are kept as text, so that any JSON fits."""
        asking(store)
        payload = [1e300, {"deep": [[[[1.5]]]]}]
        task, _ = follow(store, answers={"i-1": payload})
        assert task["resume"][0]["payload"] == payload
        newest, first = store.list_tasks(ANN, 10)[0]
        assert (newest["follows"], newest["thread_id"]) == ("task-1", "task-1")
        assert (first["followed_by"], first["interrupts"]) == ("task-2", ASKS)
        assert not {"history", "resume", "session", "session_open"} & {*newest, *first}
