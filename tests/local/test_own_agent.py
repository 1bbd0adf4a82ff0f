"""An agent of one's own behind the local runtime, called as the worker calls it, and as a person."""

import json
import sys
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from botocore.exceptions import ClientError, ResponseStreamingError

from local import __main__ as command
from local.addresses import free_port
from local.aws import ROOT
from local.processes import Program
from tests.conftest import eventually
from tests.local.conftest import Run, RuntimeClient
from tests.servers import Quiet, serving

pytestmark = pytest.mark.e2e


class OwnAgent:
    """An agent that somebody has started on a port of their own."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._program = Program("agent", folder / "agent.log")

    def start(self) -> None:
        server = str(Path(__file__).with_name("own_agent_server.py"))
        command = [sys.executable, "-u", server, str(self.port)]
        self._program.start(command, {"PYTHONDONTWRITEBYTECODE": "1"}, ROOT)
        eventually(lambda: answers(f"{self.url}/ping"), bool)

    def stop(self) -> None:
        self._program.stop()

    def printed(self) -> str:
        return self._program.output()


class Runtime(RuntimeClient):
    """The local runtime, in the place of AgentCore."""

    def __init__(self, agent_url: str, folder: Path) -> None:
        port = free_port()
        self.program = Program("runtime", folder / "runtime.log")
        arguments = ["-m", "local.runtime", "--port", str(port), "--agent", agent_url]
        self.program.start([sys.executable, *arguments], {}, ROOT)
        eventually(lambda: answers(f"http://127.0.0.1:{port}/invocations"), bool)
        super().__init__(f"http://127.0.0.1:{port}")

    def refusal(self, prompt: str) -> str:
        """Returns the message of the RuntimeClientError that this prompt ends in."""
        with pytest.raises(ClientError) as failure:
            self.invoke(prompt)
        error = failure.value.response
        assert error["ResponseMetadata"]["HTTPStatusCode"] == 424
        assert error["Error"]["Code"] == "RuntimeClientError"
        return str(error["Error"]["Message"])


def answers(url: str) -> bool:
    try:
        urllib.request.urlopen(url, timeout=2).close()
    except OSError:
        return False
    return True


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnAgent]:
    own = OwnAgent(tmp_path_factory.mktemp("agent"))
    own.start()
    yield own
    own.stop()


@pytest.fixture(scope="module")
def runtime(agent: OwnAgent, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    server = Runtime(agent.url, tmp_path_factory.mktemp("runtime"))
    yield server
    server.program.stop()


@pytest.fixture
def running_again(agent: OwnAgent) -> Iterator[None]:
    """For a test after which the agent is dead."""
    yield
    agent.stop()
    agent.start()


def test_its_answer_comes_through_and_it_sees_what_a_container_sees(runtime: Runtime):
    session = str(uuid.uuid4())

    answer = runtime.invoke("json", "t7", session)

    assert answer["contentType"] == "application/json"
    assert answer["runtimeSessionId"] == session
    seen = json.loads(answer["response"].read())
    assert (seen["response"], seen["session"]) == ("t7", session)
    http = {"host", "content-length"}
    named = {"x-amzn-bedrock-agentcore-runtime-session-id"}
    # Nothing that the caller did not send: an agent that needs it would fail on AWS.
    assert set(seen["headers"]) == http | named
    headers = {"accept": "text/event-stream", "contentType": "application/json", "baggage": "a=b"}
    seen = json.loads(runtime.invoke("json", options=headers)["response"].read())
    assert set(seen["headers"]) == http | named | {"accept", "content-type", "baggage"}


def test_its_failure_and_its_death_are_runtime_client_errors(runtime: Runtime, running_again: None):
    assert runtime.refusal("fail").startswith("Received error (500) from runtime.")
    assert runtime.refusal("die").startswith("Received error (502) from runtime.")
    # And it stays dead until somebody starts it again.
    assert runtime.refusal("json").endswith("is your agent running?")


def test_its_death_in_mid_stream_breaks_the_answer_off(runtime: Runtime, running_again: None):
    stream = runtime.invoke("die midway")["response"]
    with pytest.raises(ResponseStreamingError):
        stream.read()


@pytest.mark.parametrize("is_stopped", [True, False], ids=["stopped", "left"])
def test_its_stream_comes_as_it_is_sent_and_closes_when_nobody_wants_it(
    runtime: Runtime, agent: OwnAgent, is_stopped: bool
):
    session = str(uuid.uuid4())
    closed = agent.printed().count("The stream is closed.")
    answer = runtime.invoke("wait", session=session)
    assert answer["contentType"].startswith("text/event-stream")
    stream, first = answer["response"], b'data: {"message": "Looking around"}\n\n'
    assert stream.read(len(first)) == first

    if is_stopped:
        runtime.stop(session)
        with pytest.raises(ResponseStreamingError):
            stream.read()
    else:
        stream.close()

    eventually(lambda: agent.printed().count("The stream is closed."), lambda n: n == closed + 1)


class NoAgent(Quiet):
    def reply(self) -> None:
        self.send_error(404)


def test_an_address_at_which_no_agent_is_is_a_sentence(
    capsys: pytest.CaptureFixture[str], signals: None
):
    nothing = f"http://127.0.0.1:{free_port()}"

    assert command.main(["--agent", nothing, "--port", "0"]) == 1
    assert f"No agent answers at {nothing} (" in capsys.readouterr().err
    with serving(NoAgent) as website:
        assert command.main(["--agent", website, "--port", "0"]) == 1
    assert f"{website}/ping answered 404" in capsys.readouterr().err


def test_a_task_is_its_and_what_became_of_it_is_shown(agent: OwnAgent, start: Callable[..., Run]):
    run = start("--agent", f"{agent.url}/", "--port", "0", "hello")

    run.read_until("Serving until Ctrl-C.")
    run.read_until("Agent completed task successfully (")

    assert f"the agent is yours at {agent.url}." in run.text()
    assert "● Looking around" in run.text()
    assert "Found one." in run.text()


def test_an_agent_that_speaks_ag_ui_is_called_in_it(agent: OwnAgent, start: Callable[..., Run]):
    """The script asks the runtime for the protocol, as on AWS, and the worker is told."""
    run = start("--agent", agent.url, "--protocol", "agui", "--port", "0", "Hello")

    run.read_until("Agent completed task successfully (")

    assert "Hello in AG-UI" in run.text()
    with pytest.raises(SystemExit):
        command.main(["--protocol", "AGUI"])
