"""A local AWS with the backend deployed: MiniStack, an agent and the two scripts.

    with local_stack() as stack:
        stack.deploy()
        stack.api.request("GET", "/tasks")

Nothing here can reach a real account: every process gets an environment made for it, with dummy
credentials, empty configuration files and the local endpoint. On the way out, whatever the reason,
every process is gone (MiniStack's workers too, by their process group) and so is the temp folder;
a watchdog sees to it when this process is killed.
"""

import contextlib
import fcntl
import http.client
import json
import os
import re
import shutil
import socket
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local import PACE_VARIABLE, REGION
from local.addresses import API_ID, listen, port_of
from local.processes import Listener, Program, Script, Watchdog, say_nothing

ROOT = Path(__file__).resolve().parent.parent
ACCOUNT = "000000000000"
AGENT_RUNTIME_ARN = (
    f"arn:aws:bedrock-agentcore:{REGION}:{ACCOUNT}:runtime/valro_sample_agent-LocalAgent"
)
CLI = ROOT / "local" / "bin"
"""The folder of `aws`, the AWS CLI that aws_cli.py has loaded."""
# From a folder that is not the project's, and with nothing of it in the functions' environment.
SERVE = f"import sys; sys.path.append({str(ROOT)!r}); from local import %s as m; m.serve()"
READY_SECONDS = 30

# What a shell needs to find tools and talk to package indexes; never anything of AWS's.
_INHERITED = re.compile(
    r"PATH|HOME|LANG|LC_.*|USER|LOGNAME|TERM|PIP_.*|SSL_CERT_.*|REQUESTS_CA_BUNDLE"
    r"|(?:https?|no|all)_proxy|VALRO_SDK_CACHE",
    re.IGNORECASE,
)


class LocalError(Exception):
    """The local AWS cannot be had; the message says what to do about it."""

    def __init__(self, message: str, output: str = "") -> None:
        super().__init__(message)
        self.output = output  # what the failing program printed

    def __str__(self) -> str:
        return f"{self.args[0]}\n{self.output}".rstrip()


class ScriptFailed(LocalError):
    """One of the project's scripts failed; its output says why."""


@dataclass(frozen=True)
class Answer:
    """An HTTP answer, read whole."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    def json(self) -> Any:
        """Returns the body as JSON."""
        return json.loads(self.body)


@dataclass(frozen=True)
class Api:
    """The deployed HTTP API, asked as its own host, so that paths are those of AWS."""

    port: int
    api_id: str

    @property
    def url(self) -> str:
        """The API's address for curl and browsers.

        Not http://ID.execute-api.localhost: many resolvers do not know names under localhost.
        """
        return f"http://127.0.0.1:{self.port}/_aws/execute-api/{self.api_id}"

    @property
    def host(self) -> str:
        """The Host header by which the API is known, as it is on AWS."""
        return f"{self.api_id}.execute-api.localhost:{self.port}"

    def request(
        self,
        method: str,
        path: str,
        body: bytes | str | dict[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float = 60,
    ) -> Answer:
        """Sends one request; a dict goes as JSON, text and bytes go as they are."""
        sent = {"Host": self.host, **(headers or {})}
        if isinstance(body, dict):
            body = json.dumps(body)
            sent.setdefault("Content-Type", "application/json")
        data = body.encode() if isinstance(body, str) else body
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        with contextlib.closing(connection):
            connection.request(method, path, body=data, headers=sent)
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())


class LocalStack:
    """MiniStack and an agent, and what the scripts made there."""

    def __init__(
        self,
        *,
        listener: socket.socket | None = None,
        agent: str | None = None,
        protocol: str = "HTTP",
        pace: float = 0,
        authorization: bool = True,
    ) -> None:
        """Starts nothing yet.

        ``listener`` is a socket to serve on (default: any port), ``agent`` the URL of an agent to
        use instead of the sample, ``protocol`` what it speaks, ``pace`` the sample's seconds per step.
        """
        self._listener = listener
        self._agent = agent
        self._protocol = protocol
        self._pace = pace
        self._authorization = authorization
        self.port = 0
        self.agent_port = 0
        self.folder = Path()
        self.api: Api
        self.deploy_output = ""
        self._watchdog: Watchdog
        self._programs: list[Program] = []
        self._scripts: list[Script] = []
        self._closing = False
        # Everything that makes a process or a folder runs in this pool. Signals interrupt only
        # the main thread, so none can strike between making a thing and remembering it.
        self._pool = ThreadPoolExecutor(max_workers=4, thread_name_prefix="local")
        self._pending: list[Future[Any]] = []

    @property
    def endpoint(self) -> str:
        """The address of every AWS service here."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def agent_endpoint(self) -> str:
        """The address of the agent's runtime."""
        return f"http://127.0.0.1:{self.agent_port}"

    def ended_program(self) -> str:
        """Names a program that has ended though nobody stopped it; empty while all run."""
        return next((p.name for p in self._programs if p.has_ended()), "")

    def start(self) -> None:
        """Starts MiniStack, the agent and the AWS CLI, and returns when all of them answer."""
        if self._agent:
            _require_agent(self._agent)
        self._wait(self._submit(self._make_folder))
        # MiniStack is told the agent's port when it starts, so the agent inherits a bound socket.
        with self._listener or listen() as aws, listen() as agent:
            self.port, self.agent_port = port_of(aws), port_of(agent)
            self._wait(
                self._submit(self._start_ministack, aws),
                self._submit(self._start_agent, agent),
                self._submit(self._start_cli),
            )

    def deploy(self, say: Listener = say_nothing, arguments: tuple[str, ...] = ()) -> str:
        """Runs deploy.sh if the zips are missing or old, then create-infrastructure.sh.

        Each line that they say is passed to `say` as it comes. Returns the API's URL.
        Raises LocalError with a script's output when the script fails.
        """
        return str(self._wait(self._submit(self._deploy, say, arguments)))

    def environment(self) -> dict[str, str]:
        """Returns the environment in which the scripts and the AWS CLI know only this AWS."""
        kept = {name: value for name, value in os.environ.items() if _INHERITED.fullmatch(name)}
        path = [str(CLI), str(Path(sys.executable).parent)]
        return {
            **kept,
            "PATH": os.pathsep.join([*path, kept.get("PATH", os.defpath)]),
            "PYTHON": sys.executable,
            "TMPDIR": str(self.folder / "scripts"),
            "VALRO_AWS_CLI": str(self.folder / "cli"),
            **self.aws_environment(),
        }

    def aws_environment(self) -> dict[str, str]:
        """Returns what of the environment makes tools talk to this AWS; it names no file of ours."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ENDPOINT_URL_BEDROCK_AGENTCORE_CONTROL": self.agent_endpoint,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_PAGER": "",
            "AGENT_RUNTIME_ARN": AGENT_RUNTIME_ARN,
        }

    def agent_report(self) -> dict[str, Any]:
        """Returns what reached the agent's runtime: see runtime.Runtime.report."""
        connection = http.client.HTTPConnection("127.0.0.1", self.agent_port, timeout=10)
        with contextlib.closing(connection):
            connection.request("GET", "/invocations")
            report: dict[str, Any] = json.loads(connection.getresponse().read())
            return report

    def stop(self) -> None:
        """Ends every process and removes the temp folder; safe to call after any failure."""
        self._closing = True
        for script in self._scripts:
            script.stop()
        for future in self._pending:
            with contextlib.suppress(Exception):
                future.result(timeout=READY_SECONDS)
        stopping = [threading.Thread(target=program.stop) for program in self._programs]
        for thread in stopping:
            thread.start()
        for thread in stopping:
            thread.join()
        self._pool.shutdown()
        if self.folder != Path():
            self._watchdog.dismiss()
            shutil.rmtree(self.folder, ignore_errors=True)

    def _submit(self, function: Callable[..., Any], *arguments: Any) -> "Future[Any]":
        future = self._pool.submit(function, *arguments)
        self._pending.append(future)
        return future

    def _wait(self, *futures: "Future[Any]") -> Any:
        results = [future.result() for future in futures]
        return results[0]

    def _make_folder(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="valro-local-"))
        for name in ("ministack", "agent", "cli", "scripts"):
            (self.folder / name).mkdir()
        self._watchdog = Watchdog(self.folder)

    def _start_ministack(self, listener: socket.socket) -> None:
        folder = self.folder / "ministack"
        program = Program("MiniStack", self.folder / "ministack.log", self._watchdog)
        self._programs.append(program)
        number = listener.fileno()
        command = [sys.executable, "-c", SERVE % "ministack_gaps", str(number)]
        program.start(command, self._ministack_environment(folder), folder, (number,))
        self._wait_until(program, lambda: _answers(self.port, "/_ministack/ready"))

    def _ministack_environment(self, folder: Path) -> dict[str, str]:
        return {
            "PATH": os.environ.get("PATH", os.defpath),
            "LANG": "C.UTF-8",
            "HOME": str(folder),
            "TMPDIR": str(folder),
            "BIND_HOST": "127.0.0.1",
            "GATEWAY_PORT": str(self.port),
            "AUTH": "true" if self._authorization else "false",
            "LOG_LEVEL": "WARNING",
            # Two services that would listen on ports of their own, on every interface.
            "IOT_MTLS_ENABLED": "0",
            "SFTP_ENABLED": "0",
            # The functions inherit this: so the worker finds the agent, while scripts and zips know
            # nothing of a local AWS.
            "AWS_ENDPOINT_URL_BEDROCK_AGENTCORE": self.agent_endpoint,
        }

    def _start_agent(self, listener: socket.socket) -> None:
        name = "the way to your agent" if self._agent else "the sample agent"
        program = Program(name, self.folder / "agent.log", self._watchdog)
        self._programs.append(program)
        environment = {
            "PATH": os.environ.get("PATH", os.defpath),
            "LANG": "C.UTF-8",
            "HOME": str(self.folder / "agent"),
            "TMPDIR": str(self.folder / "agent"),
            PACE_VARIABLE: str(self._pace),
        }
        command = [sys.executable, "-m", "local.runtime", "--socket", str(listener.fileno())]
        command += ["--agent", self._agent] if self._agent else []
        command += ["--protocol", self._protocol]
        program.start(command, environment, ROOT, (listener.fileno(),))
        self._wait_until(program, lambda: _answers(self.agent_port, "/ping"))

    def _start_cli(self) -> None:
        folder = self.folder / "cli"
        program = Program("The AWS CLI", self.folder / "cli.log", self._watchdog)
        self._programs.append(program)
        program.start([sys.executable, "-c", SERVE % "aws_cli"], self.environment(), folder)
        self._wait_until(program, (folder / "socket").exists)

    def _wait_until(self, program: Program, is_ready: Callable[[], bool]) -> None:
        end = time.monotonic() + READY_SECONDS
        while time.monotonic() < end and not self._closing:
            if program.has_ended():
                raise LocalError(f"{program.name} ended at once. It said:", program.output())
            if is_ready():
                return
            time.sleep(0.05)
        raise LocalError(
            f"{program.name} did not answer within {READY_SECONDS} s. It said:", program.output()
        )

    def _deploy(self, say: Listener, arguments: tuple[str, ...]) -> str:
        said = self._build(say)
        options = (*self._deploy_options(), *arguments)
        result, more = self._run("create-infrastructure.sh", options, say)
        self.deploy_output = said + more
        url = urllib.parse.urlsplit(result.strip().splitlines()[-1] if result.strip() else "")
        api_id = (url.hostname or "").split(".")[0]
        if not re.fullmatch(r"[0-9a-z]+", api_id):
            raise LocalError("create-infrastructure.sh printed no API URL, but:", result)
        self.api = Api(self.port, api_id)
        return self.api.url

    def _deploy_options(self) -> tuple[str, ...]:
        """What a local run wants otherwise than the template: everything on, and a fixed id."""
        return (
            *("--tags", f"ms-custom-id={API_ID}"),
            *("--public-cancel-and-delete", "true"),
            *("--agent-reports", Api(self.port, API_ID).url),
        )

    def _build(self, say: Listener) -> str:
        """Runs deploy.sh if it must; the stacks on one working copy do so in turn."""
        with (ROOT / "deploy.sh").open("rb") as lock:
            is_first_try = True
            while not self._closing:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    return self._run("deploy.sh", (), say)[1] if _must_build() else ""
                except BlockingIOError:
                    if is_first_try:
                        say("Waiting for a deploy.sh that is running")
                    is_first_try = False
                    time.sleep(0.1)
        raise LocalError("Stopped before the deployment.")

    def _run(self, name: str, arguments: tuple[str, ...], say: Listener) -> tuple[str, str]:
        """Runs a script to its end; returns what it printed and what it said on stderr."""
        script = Script(self._watchdog)
        self._scripts.append(script)
        if self._closing:
            raise LocalError(f"Stopped before {name}.")
        status = script.run(["bash", str(ROOT / name), *arguments], self.environment(), ROOT, say)
        if status != 0:
            raise ScriptFailed(f"{name} failed (exit {status}).", script.said)
        return script.result, script.said


@contextlib.contextmanager
def local_stack(**options: Any) -> Iterator[LocalStack]:
    """Gives a started LocalStack, without the backend; takes LocalStack's arguments."""
    stack = LocalStack(**options)
    try:
        stack.start()
        yield stack
    finally:
        stack.stop()


def _must_build() -> bool:
    """Tells whether a zip is missing or older than anything that it could be made of."""
    zips = [ROOT / "valro-api-lambda.zip", ROOT / "valro-worker-lambda.zip"]
    if not all(path.exists() for path in zips):
        return True
    sources = [*ROOT.glob("*.py"), *ROOT.glob("valro/**/*.py"), *ROOT.glob("bundle/*.py")]
    sources += [ROOT / "requirements.txt", ROOT / "deploy.sh"]
    changed = max(path.stat().st_mtime_ns for path in sources if path.exists())
    return min(path.stat().st_mtime_ns for path in zips) <= changed


def _answers(port: int, path: str) -> bool:
    with contextlib.suppress(OSError, http.client.HTTPException):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
        with contextlib.closing(connection):
            connection.request("GET", path)
            return connection.getresponse().status == 200
    return False


def _require_agent(url: str) -> None:
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        direct.open(f"{url}/ping", timeout=10).close()
    except urllib.error.HTTPError as error:
        error.close()
        raise LocalError(
            f"{url}/ping answered {error.code} where an agent answers 200. "
            "Is this the address of your agent? It must serve /ping and /invocations."
        ) from error
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise LocalError(
            f"No agent answers at {url} ({reason}). "
            "Start yours first, in another terminal (`agentcore dev`, or `python my_agent.py`)."
        ) from error
