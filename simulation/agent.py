"""The agent, and botocore's client of it: what it says, when, and how it may end.

It streams or answers in one piece, falls silent, drips, breaks off, says nonsense. What the wire
does to its answer is a row of the wire table, as for every other call.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

from urllib3.exceptions import ProtocolError
from urllib3.exceptions import ReadTimeoutError as StreamReadTimeout

from simulation import wire
from simulation.dynamodb import client_error
from simulation.network import AGENT_FAULTS, Client, Fault, Slow, Weather
from simulation.wire import ACCOUNT, URL
from simulation.world import Background, Json, Sandbox, World

AGENT_ARN = f"arn:aws:bedrock-agentcore:us-east-1:{ACCOUNT}:runtime/sim-0123456789"
HTML = b"<html><body><h1>Bad Gateway</h1></body></html>"

# How an agent's run may end, apart from an answer; and how its answer may break off.
BREAKS = ("cut", "stalls", "worker dies in mid-stream", "unexpected error in mid-stream")
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
    *BREAKS[:2],
    "floods",
    *BREAKS[2:],
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
CUT, STALL = Piece(then="cut"), Piece(then="stalls")


@dataclass(eq=False)
class AgentRun:
    """One start of the agent: its session, how much of it was heard, and by whom.

    It is the body of its answer too: botocore's StreamingBody, as far as the worker uses it.
    """

    world: World
    patience: float  # of who reads
    streams: bool
    session_id: str
    content_type: str = ""
    task_id: str = ""
    text: str = ""
    report: Json = None  # where it may report, if anywhere
    began: float = 0.0
    is_alive: bool = True  # its session
    end_call: Callable[[Exception], None] = lambda _error: None
    asks: bool = False  # whether its answer is a question
    answer: dict[str, Json] = field(default_factory=dict)
    heard: list[str] = field(default_factory=list)
    answered_to: Sandbox | None = None  # who has read the whole of a good answer, to its end
    told_to: Sandbox | None = None  # who has read all that it says
    unread: str = ""  # something in what nobody can understand
    unread_by: Sandbox | None = None  # who has read all of that
    left_at: float | None = None  # when its reader turned to writing what came of it
    is_awaited: bool = False  # whether a good answer comes in time
    pieces: list[tuple[float, Piece]] = field(default_factory=list)  # when they are due
    closed: bool = False
    read: list[Piece] = field(default_factory=list)  # and not handed on yet
    is_good: bool = False  # whether the end of a good answer was read
    wake: Callable[..., None] = lambda: None  # its reader
    on_end: Callable[[], None] = lambda: None  # of its answer

    @property
    def _raw_stream(self) -> AgentRun:
        return self

    def framed(self, data: bytes) -> bytes:
        """What is sent of some JSON."""
        return b"data: " + data + b"\n\n" if self.streams else data

    def close(self) -> None:
        """Ends the reading."""
        self.closed = True

    def stop(self, how: str, error: Exception) -> None:
        """Ends its session, and the answer in one way or another."""
        self.is_alive = False
        if how == "drips on":
            return
        self.pieces = [(self.world.now, END if how == "ends" else CUT)]
        self.unread = ""  # or most of it
        self.wake()
        if how == "breaks":
            self.end_call(error)  # unless its head has come

    def read1(self, _most: int) -> bytes:
        """Waits for what comes next, and returns it."""
        piece = self._next_piece()
        match piece.then:
            case "cut":
                raise ProtocolError("Connection broken: IncompleteRead")
            case "unexpected error in mid-stream":
                raise RuntimeError("What nobody has thought of")
            case "worker dies in mid-stream":
                self.world.die("in mid-stream")
            case "end" | "good end":
                self.closed = True
                self.is_good = piece.then == "good end"
        if piece.data:
            self.read.append(piece)
        return piece.data

    def _next_piece(self) -> Piece:
        """Waits for what comes next, which may change meanwhile."""
        world = self.world
        end = world.now + self.patience
        while True:
            due, piece = plan = self.pieces[0] if self.pieces else (world.now, END)
            is_silent = piece.then == "stalls" or due > end
            self.wake = world.waker()
            world.sleep((end if is_silent else due) - world.now)
            if self.pieces and self.pieces[0] is not plan:
                continue
            if is_silent:
                raise StreamReadTimeout(None, URL, "Read timed out.")  # type: ignore[arg-type]
            del self.pieces[:1]
            return piece

    def handed(self, item: bytes | None) -> None:
        """Takes note of what its reader really got, which may have given up by then."""
        if item is not None:
            piece = self.read.pop(0)
            self.heard += piece.said
            self.told_to = self.world.sandbox if piece.is_answer else self.told_to
            return
        self.on_end()
        if self.is_good:
            self.answered_to = self.world.sandbox
        else:
            self.unread_by = self.world.sandbox


class Listening(Background):
    """agent_runtime.Background, that tells an agent's run what was heard of it."""

    run: AgentRun | None = None

    def next(self, seconds: float) -> Any:
        """Waits for the next item."""
        item = super().next(seconds)
        if isinstance(item, dict):
            self.run = item["response"]
        elif self.run:
            self.run.handed(item)
        return item

    def abandon(self) -> None:
        """Ends it at its next item."""
        if self.run:
            self.run.left_at = self.world.now
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
        self.sessions: dict[str, AgentRun] = {}
        # How long a session that was used before refuses the next run, and until when.
        self.busy_seconds = world.choices.pick((0.0, 30.0))
        self.busy_until: dict[str, float] = {}
        self.reporter: Callable[[AgentRun], None] = lambda _run: None
        self.endings: tuple[str, ...] = ENDINGS
        self.seconds: tuple[float, ...] = AGENT_SECONDS

    def answer_at_last(self) -> None:
        """Makes it an agent with a long answer, which comes when its time is nearly over."""
        self.is_odd, self.endings, self.seconds = True, LAST_ENDINGS, (0.0, 20.0)

    def start(self, run: AgentRun, asked: Json, fault: Fault) -> Slow:
        """Starts it; what it will do is planned here, and what the wire does to it."""
        world, choices = self.world, self.world.choices
        if run.session_id in self.sessions and self.busy_seconds:
            until = self.busy_until.setdefault(asked["task_id"], world.now + self.busy_seconds)
            if world.now < until:
                world.count("agent: session busy")
                raise client_error("RetryableConflictException", 409, "InvokeAgentRuntime")
        run.task_id, run.report, run.began = asked["task_id"], asked.get("report"), world.now
        run.text, run.on_end = f"Found by run {next(world.ids)}.", self.on_end
        self.started(run, asked)
        self.sessions[run.session_id] = run
        if run.report and self.accepts:
            self.reporter(run)
            if choices.below(8) < 7:
                return self._accept(run, fault)
            world.count("agent: reports without having accepted")
        seconds = choices.pick(self.seconds) if self.is_odd else 1.0
        if not seconds:
            seconds = max(run.patience - choices.pick(LAST_MOMENTS), 0.5)
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
        plan = self._progress(run, ending) if run.streams else []
        plan += self._end(run, ending)
        answer = self._answer(run, plan, fault, seconds)
        due = run.pieces[-1][0] if run.pieces else 0.0
        is_good = ending in ("answers", "asks")
        run.is_awaited = is_good and not fault.name and due < world.now + run.patience - 3
        return answer

    def _accept(self, run: AgentRun, fault: Fault) -> Slow:
        """Says that it works on by itself, sooner or later."""
        choices = self.world.choices
        self.world.count("agent: accepts")
        seconds = choices.pick((0.5, 0.0, 5.0, 40.0)) if self.is_odd else 0.5
        data = run.framed(b'{"accepted": true}')
        middle = choices.below(len(data))
        plan = [*([Piece(data[:middle])] if middle else []), Piece(data[middle:]), END]
        return self._answer(run, plan, fault, seconds)

    def _answer(self, run: AgentRun, plan: list[Piece], fault: Fault, seconds: float) -> Slow:
        """An answer on its way."""
        choices = self.world.choices
        run.content_type = "text/event-stream; charset=utf-8" if run.streams else "application/json"
        plan = _spoiled(plan, fault, run)
        gap = seconds / len(plan) if run.streams else choices.pick((0.0, 0.01, 3.0))
        if fault.row and fault.row["fault"] == "dripping body":
            gap += choices.pick((1.0, 25.0, 61.0))
        head = 0.05 if run.streams else seconds
        due = self.world.now + head
        for piece in plan:
            due += gap
            run.pieces.append((due, piece))
        return Slow(run, head, partial(setattr, run, "end_call"))

    def stop(self, session_id: str, stopper: Sandbox | None) -> Json:
        """Ends a session, if there is one."""
        world, choices = self.world, self.world.choices
        self.stopped(session_id, stopper)
        run = self.sessions.get(session_id)
        if run is None or (not run.is_alive and choices.below(2)):
            world.count("agent: no such session")
            operation = "StopRuntimeSession"
            raise client_error("ResourceNotFoundException", 404, operation, "No such session")
        if run.is_alive:
            how = choices.pick(STOPS)
            world.count(f"agent: session stopped, {how}")
            rows = wire.by_kind("InvokeAgentRuntime")[choices.pick(STOPPED_BEFORE_THE_HEAD)]
            whole = [row for row in rows if "raises" in row and "while" not in row]
            run.stop(how, wire.error(choices.pick(whole)))
        return {}

    def _progress(self, run: AgentRun, ending: str) -> list[Piece]:
        """What comes in a stream before its end: steps, and the beginning of the answer."""
        choices = self.world.choices
        steps = [f"Step {number} of it" for number in range(choices.pick((0, 1, 2, 4, 8)))]
        frames: list[tuple[Json, tuple[str, ...]]] = [({"message": one}, (one,)) for one in steps]
        if ending != "blank":
            frames.append((run.text[:10], ()))
        plan: list[Piece] = []
        for frame, said in frames:
            text = run.framed(json.dumps(frame).encode())
            if choices.below(4) == 3:
                middle = choices.below(len(text) - 2)
                plan += [Piece(text[:middle]), Piece(text[middle:], said)]
            else:
                plan.append(Piece(text, said))
        return [] if ending == "empty" else plan

    def _end(self, run: AgentRun, ending: str) -> list[Piece]:
        text = json.dumps(run.answer, ensure_ascii=False).encode()
        answer = run.framed(text)
        match ending:
            case "says error" | "fails without words" | "blank":
                return [Piece(run.framed(json.dumps(FAILURES[ending]).encode())), END]
            case "unreadable":
                run.unread = "what is this" if run.streams else run.text
                if run.streams:
                    return [Piece(b'data: {"what is this": \xff\n\n'), Piece(answer), END]
                return [Piece(text[:2] + b"\xff" + text[2:]), END]
            case "empty":
                return [Piece(b": nothing\n\n"), END] if run.streams else [END]
            case "floods":
                return [Piece(b"data: " * run.streams + b"x" * 4_000)] * 30
        if ending in BREAKS:
            is_begun = ending == "cut" or not run.streams
            return [*([Piece(answer[:30])] if is_begun else []), Piece(then=ending)]
        if run.streams:
            return [Piece(answer, is_answer=True), GOOD_END]
        middle = self.world.choices.below(len(text) // 8) * 8
        return [Piece(text[:middle]), Piece(text[middle:]), GOOD_END]


def _spoiled(plan: list[Piece], fault: Fault, run: AgentRun) -> list[Piece]:
    """An answer after what the wire has done to it, as the table's rows have it."""
    if not fault.row or fault.error:
        return plan
    name = fault.row["fault"]
    if "while" in fault.row:
        kept = [] if name.endswith("after the head") else plan[: len(plan) // 2]
        return [*kept, STALL if "waits" in fault.row else CUT]
    if name.endswith("in the head"):
        run.unread = run.content_type = ""
        return [END]
    if fault.name != "garbled":
        return plan
    run.unread = ""
    if name == "200 with HTML":
        run.content_type = "text/html"
    garbage = {"200 with HTML": HTML, "200 with nothing": b"", "200 with a list": b"[]"}
    if name in garbage:
        return [Piece(garbage[name]), END]
    *before, last = [piece for piece in plan if piece.data] or [Piece()]
    middle = len(last.data) // 2
    broken = last.data[:middle] + b"\xff" + last.data[middle:]
    half = last.data[:-3] if name == "200 with half of it" else broken
    return [*before, Piece(half, last.said), END]


class AgentClient(Client):
    """botocore's AgentCore client."""

    def invoke_agent_runtime(self, **request: Any) -> Any:
        """Starts the agent and returns its answer as it comes."""
        assert request["agentRuntimeArn"] == AGENT_ARN
        assert len(request["runtimeSessionId"]) >= 33
        agent, world = self.aws.agent, self.aws.world
        streams = world.choices.below(2) == 1
        operation = "InvokeAgentRuntime, streamed" if streams else "InvokeAgentRuntime"
        run = AgentRun(world, self.config.read_timeout, streams, request["runtimeSessionId"])

        sent = request["payload"].getvalue()  # under way from now on, even if its worker gives up

        def arrive(fault: Fault) -> Slow:
            return agent.start(run, json.loads(sent), fault)

        def spoil(fault: Fault, answer: Any) -> Any:
            if fault.name == "unexpected error":
                raise RuntimeError("What nobody has thought of")
            if answer is None:  # something in between answered; the agent never ran
                run.content_type = "application/json"
                run.pieces = [(world.now, piece) for piece in _spoiled([Piece(b"{}")], fault, run)]
            return {"contentType": run.content_type, "response": run}

        return agent.weather.call(self.config, operation, arrive, spoil)

    def stop_runtime_session(self, **request: Any) -> Any:
        """Asks for the end of a session."""
        assert request["agentRuntimeArn"] == AGENT_ARN
        agent, stopper = self.aws.agent, self.aws.world.sandbox
        return agent.weather.call(
            self.config,
            "StopRuntimeSession",
            lambda _fault: agent.stop(request["runtimeSessionId"], stopper),
            lambda _fault, _answer: {},
        )
