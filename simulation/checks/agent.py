"""What must be true of the agent's run, and of the worker that waits for it."""

from botocore.exceptions import ClientError

from simulation.agent import QUESTION, AgentRun
from simulation.checks.known import Known, must
from simulation.world import Json, Sandbox
from valro.agent.runtime import session_id
from valro.dynamodb_pages import StoreBusy

# A right to start the agent is 10 s old at most when it is used, and a call takes its way.
FRESH_BOUND = 10.0 + 1.25
GIVING_UP_SECONDS = 20.0
PATIENT_SECONDS = 15.0
HOPELESS = ("ValidationException", "AccessDeniedException", "ResourceNotFoundException")


def started(known: Known, run: AgentRun, asked: Json) -> None:
    """Counts what reached the agent, whatever the worker believes."""
    life, prompt = known.lives[run.task_id], asked["prompt"]
    life.runs.append(run)
    if "report" in asked:
        known.tokens.add(asked["report"]["token"])
    known.world.trace(f"the agent starts for {run.task_id}", "agent")
    must("the agent runs once", len(life.runs) == 1, f"{run.task_id}: {len(life.runs)} times")
    must("the prompt is a description", prompt.startswith("Find a "), prompt)
    _continues(known, run, asked)
    must("a cancelled task starts no agent", not life.is_cancelled, run.task_id)
    must("a deleted task starts no agent", life.deleted_at is None, run.task_id)
    age = known.world.now - life.claim_confirmed_at
    must("only a fresh right starts the agent", age <= FRESH_BOUND, f"{age:.1f} s old")
    age = 0.0 if life.cancelled_at is None else known.world.now - life.cancelled_at
    must("what is to be cancelled is not started", age <= FRESH_BOUND, f"{age:.1f} s old")


def _continues(known: Known, run: AgentRun, asked: Json) -> None:
    """A follow-up goes on where the earlier task ended, and where nobody stops it."""
    life = known.lives[run.task_id]
    own = run.session_id == session_id(life.session)
    must("a task runs in its own session", own, f"{run.task_id} in {run.session_id}")
    stopper = known.stopped.get(run.session_id, run.task_id)
    must("a stopped session is not used again", stopper == run.task_id, run.task_id)
    if not life.follows:
        return
    siblings = [one for one in known.lives.values() if one.follows == life.follows and one.runs]
    must("one follower acts at most", siblings == [life], f"{run.task_id}: {len(siblings)}")
    earlier = [turn["id"] for turn in asked["history"]][-2]
    must("a follow-up knows what was said", earlier == life.follows, f"{asked['history']}")
    answered = [one["interruptId"] for one in asked.get("resume", [])]
    asks = known.lives[life.follows].asks
    must("a question is answered", answered == [QUESTION["id"]] * asks, f"{asked}")


def stopped(known: Known, session: str, stopper: Sandbox | None) -> None:
    """A session is stopped only when its task has ended, or its worker can do no more.

    Or when somebody asked for it. Never under a follow-up.
    """
    known.world.trace(f"session {session} is stopped", "agent")
    assert stopper
    life = known.lives[stopper.task_id]
    is_own = session == session_id(life.session)
    must("who stops a session stops its own", is_own, f"{stopper.task_id}: {session}")
    may = life.ended != "completed" or (known.stops_sessions and not life.asks)
    must("a completed task's session is not stopped", may, stopper.task_id)
    later = [one for one in known.lives.values() if one.session == life.session]
    must("a stop hits no other task", later[-1] is life, session)
    known.stopped[session] = stopper.task_id
    gave_up = life.holder and "dynamodb" in life.holder.troubled
    is_asked = life.cancelled_at is not None
    at_console = life.is_deleted and life.deleted_at is None
    over = bool(life.ended or at_console or gave_up or is_asked)
    must("the outcome comes first", over, session)
    life.stops += 1
    # Once by the worker; those who see an end that it did not write do not know of that.
    unseen = is_asked or life.is_deleted or (life.ended and life.ended_by is not life.holder)
    once = life.stops == 1 or unseen or life.accepted_at is not None
    must("a session is stopped once", once, session)


def raised(known: Known, event: Json, sandbox: Sandbox, error: Exception) -> None:
    """Checks that a worker had to raise."""
    in_trouble = "dynamodb" in sandbox.troubled
    if "stop" in event:
        code = error.response["Error"]["Code"] if isinstance(error, ClientError) else ""
        failed = in_trouble or "agent" in sandbox.troubled or isinstance(error, StoreBusy)
        had_to = failed or code == "ResourceNotFoundException"
        must("a stop raises only if it failed", had_to, repr(error))
        return
    must("a worker raises only for DynamoDB", in_trouble, repr(error))
    if isinstance(error, ClientError) and error.response["Error"]["Code"] in HOPELESS:
        return
    life = known.lives.get(event["task_id"])
    left, age = sandbox.end - known.world.now, known.world.now - sandbox.started
    detail = f"{error!r} after {age:.0f} s, {left:.0f} s left"
    if life and life.holder is sandbox and life.runs:
        must("a worker tries as long as it can", left < GIVING_UP_SECONDS, detail)
    elif not known.is_misconfigured:
        patient = age >= PATIENT_SECONDS or left < GIVING_UP_SECONDS
        must("a worker tries for a while to claim", patient, detail)


def done(known: Known, event: Json, result: Json, sandbox: Sandbox) -> None:
    """Checks what a worker says that it has done."""
    life = known.lives.get(event.get("stop", ""))
    _did_nothing(known, event, result, sandbox)
    # An agent that started since then is its worker's to stop.
    has_run = life and life.runs and life.runs[-1].began < sandbox.started
    if life and has_run and known.is_left_alone(life, sandbox.started):
        # Somebody in between may have said 200 in AgentCore's place.
        must("a stop ends the session", "agent" in sandbox.troubled, f"{event}: {result}")
        known.aws.queue.stops_lost.add(event["stop"])
    if life and life.accepted_at is not None and result.get("outcome") == "stopped":
        over = bool(life.ended or life.is_deleted)
        must("a stop ends a task that has no worker", over, str(result))


def _did_nothing(known: Known, event: Json, result: Json, sandbox: Sandbox) -> None:
    """A worker that leaves a task alone has good reason to."""
    life, outcome = known.lives.get(event.get("task_id", "")), result.get("outcome")
    if not life or life.is_deleted:
        return
    must("what a worker finds gone is gone", outcome != "deleted", f"{result}")
    is_overdue = known.world.now + known.tolerance > life.deadline
    others = bool(life.ended) or is_overdue or life.holder not in (None, sandbox)
    left = outcome in ("lost", "not_claimed")
    must("a worker leaves only what is not its own", others or not left, f"{result}")
