"""The agent, and botocore's client of it: what it says, when, and how it may end.

It streams or answers in one piece, falls silent, drips, breaks off, says nonsense. What the wire
does to its answer is a row of the wire table, as for every other call.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from io import BytesIO
from typing import Any, NamedTuple

from botocore.config import Config
from urllib3.exceptions import ProtocolError
from urllib3.exceptions import ReadTimeoutError as StreamReadTimeout

from simulation import wire
from simulation.dynamodb import client_error
from simulation.network import AGENT_FAULTS, Fault, Slow, Weather
from simulation.wire import ACCOUNT, URL
from simulation.world import Background, Sandbox, World

Json = Any

AGENT_ARN = f"arn:aws:bedrock-agentcore:us-east-1:{ACCOUNT}:runtime/sim-0123456789"
HTML = b"<html><body><h1>Bad Gateway</h1></body></html>"

# How an agent's run may end, apart from an answer.
AGENT_ENDINGS = (
    "answers",
    "asks",
    "long answer",
    "too long answer",
    "says error",
    "fails without words",
    "unreadable",
    "empty",
    "blank",
    "cut",
    "stalls",
    "floods",
    "worker dies in mid-stream",
    "unexpected error in mid-stream",
)
ENDINGS = (*AGENT_ENDINGS, "long answer", "too long answer", "too long answer")
QUESTION = {"id": "booking", "message": "Shall I book Ann?"}
LAST_ENDINGS = ("too long answer", "long answer", "too long answer", "unreadable")
AGENT_SECONDS = (1.0, 0.2, 20.0, 61.0, 400.0, 800.0, 0.0, 0.0)  # 0: all that it is given
LAST_MOMENTS = (1.0, 0.3, 0.6, 3.0, 9.0, 18.0, 26.0)  # before its time is over
# What becomes of the answer to a call when its session is stopped.
STOPS = ("breaks", "ends", "drips on")
STOPPED_BEFORE_THE_HEAD = ("closed", "agent failed", "server error")
SIZES = {"long answer": 2_000, "too long answer": 5_000}
FILLERS = ("é", "x", "é", "\x7f")  # the last of which Lambda's runtime makes six bytes of
FAILURES = {
    "says error": {"error": "no vendors", "message": "It broke"},
    "fails without words": {
        "error": "",
        "error_type": "TimeoutError",
        "message": "An error occurred during streaming",
    },
    "blank": {"response": " "},
}


class Piece(NamedTuple):
    """Bytes of the agent's answer, and the progress that a reader has heard once it has them."""

    data: bytes = b""
    said: tuple[str, ...] = ()
    then: str = ""
    is_answer: bool = False  # the whole of a good one, though it may be long until its end


END, GOOD_END = Piece(then="end"), Piece(then="good end")
CUT, STALL = Piece(then="cut"), Piece(then="stall")
DEATH, SURPRISE = Piece(then="death"), Piece(then="surprise")
BREAKS = {
    "cut": CUT,
    "stalls": STALL,
    "worker dies in mid-stream": DEATH,
    "unexpected error in mid-stream": SURPRISE,
}


@dataclass
class AgentRun:
    """One start of the agent, and how much of it was heard."""

    task_id: str
    text: str
    session_id: str = ""
    began: float = 0.0
    asks: bool = False  # whether its answer is a question
    answer: dict[str, Json] = field(default_factory=dict)
    heard: list[str] = field(default_factory=list)
    answered_to: Sandbox | None = None  # who has read the whole of a good answer, to its end
    told_to: Sandbox | None = None  # who has read all that it says
    unread: str = ""  # something in what nobody can understand
    unread_by: Sandbox | None = None  # who has read all of that
    left_at: float | None = None  # when its reader turned to writing what came of it
    is_awaited: bool = False  # whether a good answer comes in time


@dataclass
class Session:
    """Where an agent runs: what it was asked, and what of its answer is on its way."""

    run: AgentRun
    report: Json  # where it may report, if anywhere
    body: Body
    is_alive: bool = True
    end_call: Callable[[Exception], None] = lambda _error: None

    def stop(self, how: str, error: Exception) -> None:
        """Ends it, and the answer in one way or another."""
        self.is_alive = False
        if how == "drips on":
            return
        self.body.cut(END if how == "ends" else CUT)
        if how == "breaks":
            self.end_call(error)  # unless its head has come


class Body:
    """botocore's StreamingBody, as far as the worker reaches into it."""

    def __init__(
        self, run: AgentRun, world: World, patience: float, on_end: Callable[[], None]
    ) -> None:
        self.run = run
        self.pieces: list[tuple[float, Piece]] = []
        self.closed = False
        self.patience = patience
        self.read: list[Piece] = []  # and not handed on yet
        self.on_end = on_end
        self.is_good = False  # whether the end of a good answer was read
        self._world = world
        self._wake: Callable[..., None] = lambda: None

    @property
    def _raw_stream(self) -> Body:
        return self

    def close(self) -> None:
        """Ends the reading."""
        self.closed = True

    def cut(self, end: Piece) -> None:
        """Puts an end in the place of what is still to come."""
        self.pieces = [(self._world.now, end)]
        self.run.unread = ""  # or most of it
        self._wake()

    def _next_piece(self) -> Piece:
        """Waits for what comes next, which may change meanwhile."""
        world = self._world
        end = world.now + self.patience
        while True:
            due, piece = plan = self.pieces[0] if self.pieces else (world.now, END)
            is_silent = piece.then == "stall" or due > end
            self._wake = world.waker()
            world.sleep((end if is_silent else due) - world.now)
            if self.pieces and self.pieces[0] is not plan:
                continue
            if is_silent:
                raise StreamReadTimeout(None, URL, "Read timed out.")  # type: ignore[arg-type]
            del self.pieces[:1]
            return piece

    def read1(self, _most: int) -> bytes:
        """Waits for what comes next, and returns it."""
        world = self._world
        piece = self._next_piece()
        match piece.then:
            case "cut":
                raise ProtocolError("Connection broken: IncompleteRead")
            case "surprise":
                raise RuntimeError("What nobody has thought of")
            case "death":
                world.die("in mid-stream")
            case "end" | "good end":
                self.closed = True
                self.is_good = piece.then == "good end"
        if piece.data:
            self.read.append(piece)
        return piece.data

    def handed(self, item: Any) -> None:
        """Takes note of what its reader really got, which may have given up by then."""
        reader = self._world.sandbox
        if isinstance(item, bytes):
            piece = self.read.pop(0)
            self.run.heard += piece.said
            self.run.told_to = reader if piece.is_answer else self.run.told_to
        elif item is None:
            self.on_end()
            if self.is_good:
                self.run.answered_to = reader
            else:
                self.run.unread_by = reader


class Listening(Background):
    """agent_runtime.Background, that tells an agent's run what was heard of it."""

    def __init__(self, world: World, items: Iterator[Any]) -> None:
        super().__init__(world, items)
        self.body: Body | None = None

    def next(self, seconds: float) -> Any:
        """Waits for the next item."""
        item = super().next(seconds)
        if isinstance(item, dict):
            self.body = item["response"]
        elif self.body:
            self.body.handed(item)
        return item

    def abandon(self) -> None:
        """Ends it at its next item."""
        if self.body:
            self.body.run.left_at = self.world.now
        super().abandon()


class Agent:
    """One agent of AgentCore's, as one schedule has it.

    ``started`` and ``stopped`` are told of it, and ``on_end`` when an answer was read.
    """

    def __init__(self, world: World, on_end: Callable[[], None]) -> None:
        self.world = world
        self.started: Callable[[AgentRun, Json], None] = lambda _run, _asked: None
        self.stopped: Callable[[str, Sandbox | None], None] = lambda _session, _stopper: None
        self.on_end = on_end
        self.weather = Weather(world, "agent", AGENT_FAULTS, (0, 200, 600))
        self.is_odd = world.choices.below(2) == 1
        self.accepts = world.choices.below(2) == 1  # and reports, where it is asked to
        self.sessions: dict[str, Session] = {}
        # How long a session that was used before refuses the next run, and until when.
        self.busy_seconds = world.choices.pick((0.0, 30.0))
        self.busy_until: dict[str, float] = {}
        self.reporter: Callable[[Session], None] = lambda _session: None
        self.endings: tuple[str, ...] = ENDINGS
        self.seconds: tuple[float, ...] = AGENT_SECONDS

    def answer_at_last(self) -> None:
        """Makes it an agent with a long answer, which comes when its time is nearly over."""
        self.is_odd, self.endings, self.seconds = True, LAST_ENDINGS, (0.0, 20.0)

    def start(
        self, session_id: str, asked: Json, fault: Fault, patience: float, *, streams: bool
    ) -> Slow:
        """Starts it; what it will do is planned here, and what the wire does to it."""
        world, choices = self.world, self.world.choices
        if session_id in self.sessions and self.busy_seconds:
            until = self.busy_until.setdefault(asked["task_id"], world.now + self.busy_seconds)
            if world.now < until:
                world.count("agent: session busy")
                raise client_error("RetryableConflictException", 409, "InvokeAgentRuntime")
        text = f"Found by run {next(world.ids)}."
        run = AgentRun(asked["task_id"], text, session_id, world.now)
        self.started(run, asked)
        body = Body(run, world, patience, self.on_end)
        session = self.sessions[session_id] = Session(run, asked.get("report"), body)
        if session.report and self.accepts:
            self.reporter(session)
            if choices.below(8) < 7:
                return self._accept(session, fault, streams=streams)
            world.count("agent: reports without having accepted")
        seconds = choices.pick(self.seconds) if self.is_odd else 1.0
        if not seconds:
            seconds = max(patience - choices.pick(LAST_MOMENTS), 0.5)
        ending = choices.pick(self.endings) if self.is_odd else "answers"
        if ending != "answers":
            world.count(f"agent: {ending}")
        if seconds > 60:
            world.count("agent: slow")
        size = SIZES.get(ending) or choices.pick((0, 400))
        run.text += choices.pick(FILLERS) * (size // 2) + "x" * (size // 2)
        run.answer = {
            "response": run.text,
            "vendors": [{"name": "Ann", "email": "ann@example.com"}],
            "emails": [{"recipient": "Ann@example.com", "body": "Hello"}],
        }
        if ending == "asks":
            run.asks = True
            run.answer["interrupts"] = [QUESTION]
        plan = self._progress(run, ending) if streams else []
        plan += self._end(run, ending, streams=streams)
        answer = self._answer(session, plan, fault, seconds, streams=streams)
        due = body.pieces[-1][0] if body.pieces else 0.0
        is_good = ending in ("answers", "asks")
        run.is_awaited = is_good and not fault.name and due < world.now + patience - 3
        return answer

    def _accept(self, session: Session, fault: Fault, *, streams: bool) -> Slow:
        """Says that it works on by itself, sooner or later."""
        choices = self.world.choices
        self.world.count("agent: accepts")
        seconds = choices.pick((0.5, 0.0, 5.0, 40.0)) if self.is_odd else 0.5
        data = _framed(b'{"accepted": true}', streams=streams)
        middle = choices.below(len(data))
        plan = [*([Piece(data[:middle])] if middle else []), Piece(data[middle:]), END]
        return self._answer(session, plan, fault, seconds, streams=streams)

    def _answer(
        self, session: Session, plan: list[Piece], fault: Fault, seconds: float, *, streams: bool
    ) -> Slow:
        """An answer on its way."""
        choices = self.world.choices
        kind = "text/event-stream; charset=utf-8" if streams else "application/json"
        plan, kind = _spoiled(plan, kind, fault, session.run)
        gap = seconds / len(plan) if streams else choices.pick((0.0, 0.01, 3.0))
        if fault.row and fault.row["fault"] == "dripping body":
            gap += choices.pick((1.0, 25.0, 61.0))
        head = 0.05 if streams else seconds
        due = self.world.now + head
        for piece in plan:
            due += gap
            session.body.pieces.append((due, piece))
        answer = {"contentType": kind, "response": session.body}
        return Slow(answer, head, partial(setattr, session, "end_call"))

    def is_alive(self, run: AgentRun) -> bool:
        """Whether the session of a run has not ended, whatever anybody believes."""
        return self.sessions[run.session_id].is_alive

    def stop(self, session_id: str, stopper: Sandbox | None) -> Json:
        """Ends a session, if there is one."""
        world, choices = self.world, self.world.choices
        self.stopped(session_id, stopper)
        session = self.sessions.get(session_id)
        if session is None or (not session.is_alive and choices.below(2)):
            world.count("agent: no such session")
            operation = "StopRuntimeSession"
            raise client_error("ResourceNotFoundException", 404, operation, "No such session")
        if session.is_alive:
            how = choices.pick(STOPS)
            world.count(f"agent: session stopped, {how}")
            kinds = wire.by_kind("agent", "InvokeAgentRuntime")
            rows = kinds[choices.pick(STOPPED_BEFORE_THE_HEAD)]
            whole = [row for row in rows if "raises" in row and "while" not in row]
            session.stop(how, wire.error(choices.pick(whole)))
        return {}

    def _progress(self, run: AgentRun, ending: str) -> list[Piece]:
        """What comes in a stream before its end: steps, and the beginning of the answer."""
        choices = self.world.choices
        steps = [f"Step {number} of it" for number in range(choices.pick((0, 1, 2, 4, 8)))]
        frames: list[tuple[Json, tuple[str, ...]]] = [
            ({"message": step}, (step,)) for step in steps
        ]
        if ending != "blank":
            frames.append((run.text[:10], ()))
        plan: list[Piece] = []
        for frame, said in frames:
            text = _framed(json.dumps(frame).encode(), streams=True)
            if choices.below(4) == 3:
                middle = choices.below(len(text) - 2)
                plan += [Piece(text[:middle]), Piece(text[middle:], said)]
            else:
                plan.append(Piece(text, said))
        return [] if ending == "empty" else plan

    def _end(self, run: AgentRun, ending: str, *, streams: bool) -> list[Piece]:
        text = json.dumps(run.answer, ensure_ascii=False).encode()
        answer = _framed(text, streams=streams)
        match ending:
            case "says error" | "fails without words" | "blank":
                said = json.dumps(FAILURES[ending]).encode()
                return [Piece(_framed(said, streams=streams)), END]
            case "unreadable":
                run.unread = "what is this" if streams else run.text
                if streams:
                    return [Piece(b'data: {"what is this": \xff\n\n'), Piece(answer), END]
                return [Piece(text[:2] + b"\xff" + text[2:]), END]
            case "empty":
                return [Piece(b": nothing\n\n"), END] if streams else [END]
            case "floods":
                return [Piece(b"data: " * streams + b"x" * 4_000)] * 30
        if ending in BREAKS:
            is_begun = ending == "cut" or not streams
            return [*([Piece(answer[:30])] if is_begun else []), BREAKS[ending]]
        if streams:
            return [Piece(answer, is_answer=True), GOOD_END]
        middle = self.world.choices.below(len(text) // 8) * 8
        return [Piece(text[:middle]), Piece(text[middle:]), GOOD_END]


def _framed(data: bytes, *, streams: bool) -> bytes:
    return b"data: " + data + b"\n\n" if streams else data


def _spoiled(
    plan: list[Piece], content_type: str, fault: Fault, run: AgentRun
) -> tuple[list[Piece], str]:
    """An answer after what the wire has done to it, as the table's rows have it."""
    if not fault.row or ("raises" in fault.row and "while" not in fault.row):
        return plan, content_type
    name = fault.row["fault"]
    if "while" in fault.row:
        end = STALL if "waits" in fault.row else CUT
        return (
            [end] if name.endswith("after the head") else [*plan[: len(plan) // 2], end]
        ), content_type
    if name.endswith("in the head"):
        run.unread = ""
        return [END], ""
    if fault.name != "garbled":
        return plan, content_type
    garbage = {"200 with HTML": HTML, "200 with nothing": b"", "200 with a list": b"[]"}
    run.unread = ""
    if name in garbage:
        return [Piece(garbage[name]), END], "text/html" if name == "200 with HTML" else content_type
    *before, last = [piece for piece in plan if piece.data] or [Piece()]
    if name == "200 with half of it":
        return [*before, Piece(last.data[:-3], last.said), END], content_type
    middle = len(last.data) // 2
    broken = last.data[:middle] + b"\xff" + last.data[middle:]
    return [*before, Piece(broken, last.said), END], content_type


class AgentClient:
    """botocore's AgentCore client."""

    def __init__(self, agent: Agent, config: Config) -> None:
        self.agent = agent
        self.config = config

    def invoke_agent_runtime(
        self,
        *,
        agentRuntimeArn: str,  # noqa: N803
        runtimeSessionId: str,  # noqa: N803
        payload: BytesIO,
        **_headers: str,
    ) -> Any:
        """Starts the agent and returns its answer as it comes."""
        assert agentRuntimeArn == AGENT_ARN
        assert len(runtimeSessionId) >= 33
        agent = self.agent
        streams = agent.world.choices.below(2) == 1
        operation = "InvokeAgentRuntime, streamed" if streams else "InvokeAgentRuntime"

        patience = self.config.read_timeout

        def arrive(fault: Fault) -> Slow:
            # Read when it is sent, and closed if nobody waits any more.
            asked = json.loads(payload.getvalue())
            return agent.start(runtimeSessionId, asked, fault, patience, streams=streams)

        def spoil(fault: Fault, answer: Any) -> Any:
            if fault.name == "unexpected error":
                raise RuntimeError("What nobody has thought of")
            if answer is None:  # somebody else has answered, and the agent has never heard of it
                body = Body(AgentRun("", ""), agent.world, patience, lambda: None)
                plan, kind = _spoiled([Piece(b"{}")], "application/json", fault, body.run)
                body.pieces = [(agent.world.now, piece) for piece in plan]
                answer = {"contentType": kind, "response": body}
            return answer

        return agent.weather.call(self.config, operation, arrive, spoil)

    def stop_runtime_session(
        self,
        *,
        agentRuntimeArn: str,  # noqa: N803
        runtimeSessionId: str,  # noqa: N803
    ) -> Any:
        """Asks for the end of a session."""
        assert agentRuntimeArn == AGENT_ARN
        agent, stopper = self.agent, self.agent.world.sandbox

        return agent.weather.call(
            self.config,
            "StopRuntimeSession",
            lambda _fault: agent.stop(runtimeSessionId, stopper),
            lambda _fault, _answer: {},
        )
