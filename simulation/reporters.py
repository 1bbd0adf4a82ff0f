"""Agents that work on by themselves and report over HTTP, well or badly.

They live in their session, which may be stopped, or elsewhere, where only an answer to a report can
tell them to stop; and they may not listen. What a network does to a report: it is lost, late,
doubled, and overtaken by the next.
"""

from simulation.agent import QUESTION, AgentRun
from simulation.backend import REPORTS_BASE_URL, Backend
from simulation.callers import Caller
from simulation.checks import answers
from simulation.checks.known import Reply, Report
from simulation.world import Violation

ENDS = (
    "answers",
    "falls silent",
    "reports an error",
    "answers at length",
    "answers twice",
    "answers too late",
)
MANNERS = (
    "reports lost",
    "reports late",
    "reports twice at once",
    "reports again",
    "says its token",
    "reports with a wrong token",
    "reports with another's token",
    "reports what nobody can use",
    "reports too much at once",
    "does not stop when told to",
    "gives up soon",
)
GAPS = ((60.0,), (0.0, 0.01, 1.0), (1.0, 20.0, 61.0), (300.0, 595.0), (599.0, 590.0, 601.0, 700.0))
HOURS = 8 * 3_600
BEFORE_TRYING_AGAIN = (1.0, 0.1, 5.0, 60.0)
LATE = (1.0, 0.2, 30.0, 601.0)


def work(backend: Backend, run: AgentRun) -> None:
    """Lets the agent of a session work and report, in one process or two with the same token."""
    world = backend.world
    two = world.choices.below(4) == 3
    if two:
        world.count("reporter: two processes")
    for number in range(1 + two):
        world.spawn("reporter", _Process(backend, run, number).work)


class _Process(Caller):
    """One process of an agent's."""

    def __init__(self, backend: Backend, run: AgentRun, number: int) -> None:
        super().__init__(backend, None)
        self.run = run
        self.name = f"{run.task_id[-12:]}.{number}"
        self.task_id = run.task_id
        url, self.token = run.report["url"], run.report["token"]
        self.path = url.removeprefix(REPORTS_BASE_URL)
        self.count = 0
        self.is_told_to_stop = False
        self.manners: list[str] = []
        self.lives_elsewhere = False

    def work(self) -> None:
        """Works, reports, and ends well or badly."""
        choices, world = self.choices, self.world
        self.manners = choices.some(MANNERS) if choices.below(2) else []
        self.lives_elsewhere = choices.below(2) == 1
        world.sleep(choices.pick((0.5, 0.0, 0.1, 3.0, 30.0)))
        gaps, count = choices.pick(GAPS), choices.pick((2, 0, 1, 4, 8))
        if choices.below(16) == 15:
            world.count("reporter: works for hours")
            gaps, count = (599.0, 590.0), 55
        for _ in range(count):
            if self._should_stop():
                return
            self._manage(self._report())
            world.sleep(choices.pick(gaps))
        end = choices.pick(ENDS)
        if end != "answers":
            world.count(f"reporter: {end}")
        if self._should_stop() or end == "falls silent":
            return
        if end == "answers too late":
            world.sleep(choices.pick((601.0, HOURS, 650.0, HOURS + 900.0)))
        for _ in range(2 if end == "answers twice" else 1):
            self._manage(self._last(end))

    def _should_stop(self) -> bool:
        """Whether it is dead, or has been told to stop and obeys."""
        stops = self.is_told_to_stop and not self._has("does not stop when told to")
        return stops or not (self.run.is_alive or self.lives_elsewhere)

    def _has(self, manner: str) -> bool:
        """Whether it is of that sort, and is so just now."""
        if manner not in self.manners or not self.choices.below(2):
            return False
        self.world.count(f"reporter: {manner}")
        return True

    # --- what it reports --------------------------------------------------------------------------

    def _report(self) -> Report:
        self.count += 1
        name = f"{self.name}.{self.count}"
        lines = [f"Report {name}, line {n}" for n in range(self.choices.pick((1, 0, 0, 2)))]
        if lines and self._has("says its token"):
            lines[0] += f" {self.token}"
        return Report(self.task_id, name, self.token, tuple(lines))

    def _last(self, end: str) -> Report:
        report = self._report()
        if end == "reports an error":
            report.error = self.choices.pick(("No vendor answers", ""))
            return report
        size = self.choices.pick((2_000, 5_000)) if end == "answers at length" else 0
        asked = {"interrupts": [QUESTION]} if self.choices.below(3) == 2 else {}
        text = f"Found and reported by {report.id}. {'é' * (size // 2)}"
        report.answer = asked | {"response": text}
        return report

    # --- how --------------------------------------------------------------------------------------

    def _manage(self, report: Report) -> None:
        """Sends a report, once or more, at once or later, or what is none."""
        world, choices = self.world, self.choices
        self._make_trouble()
        if self._has("reports lost"):
            return
        if self._has("reports late"):
            world.spawn("late report", lambda: self._insist(report), delay=choices.pick(LATE))
            return
        if self._has("reports twice at once"):
            world.spawn("report again", lambda: self._insist(report))
        self._insist(report)
        if self._has("reports again"):
            world.sleep(choices.pick((0.0, 1.0, 61.0)))
            self._insist(report)

    def _make_trouble(self) -> None:
        name = f"{self.name}.x{self.count}"
        report = Report(self.task_id, name, self.token, ("Report of others",))
        if self._has("reports with a wrong token"):
            token = self.choices.pick(("wrong", "", self.token[:-1], self.token.upper() + "é"))
            report.token, report.is_right = token, False
            report.is_usable = self.choices.below(2) == 0
        elif self._has("reports with another's token"):
            others = [one.report["token"] for one in self.backend.aws.agent.sessions.values()]
            report.token, report.is_right = others[0], others[0] == self.token
            report.messages = ()
            if report.is_right:
                return
        elif self._has("reports what nobody can use"):
            report.is_usable = False
        elif self._has("reports too much at once"):
            report.is_too_large = True
        else:
            return
        self._send(report)

    def _insist(self, report: Report) -> None:
        """Sends a report until it is received, or patience ends."""
        for _ in range(1 if self._has("gives up soon") else 8):
            reply = self._send(report)
            if reply and reply.status == 200:
                return
            if reply and reply.status == 401:
                self.is_told_to_stop = True
                return
            self.world.sleep(self.choices.pick(BEFORE_TRYING_AGAIN))
            if not (self.run.is_alive or self.lives_elsewhere):
                return

    def _send(self, report: Report) -> Reply | None:
        headers = {"authorization": f"Bearer {report.token}"}
        reply = self.request("POST", self.path, report.body(), headers, report)
        if reply:
            answers.reported(self.known, report, reply)
            if reply.status == 200 and not reply.body["continue"]:
                self.is_told_to_stop = True
            if reply.status == 409 and "Retry-After" not in reply.headers:
                raise Violation("who reports too soon is told when to again", reply.text)
        return reply
