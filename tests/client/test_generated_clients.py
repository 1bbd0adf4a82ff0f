"""Clients that other people's generators make of openapi.yaml can hold a conversation with the API."""

import json
import shutil
import subprocess
import sys
import venv
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.conftest import Deployment

pytestmark = pytest.mark.e2e  # installs the generators

ROOT = Path(__file__).resolve().parents[2]
OPENAPI = ROOT / "openapi.yaml"
PYTHON_PACKAGES = ["openapi-python-client==0.29.1", "httpx==0.28.1", "pydantic==2.14.4"]
NPM_PACKAGES = ["openapi-typescript@7.13.0", "openapi-fetch@0.17.0", "typescript@5.9.3"]
# What each client comes to see of the same conversation.
SEEN = {
    "asked": ["completed", "booking"],
    "refused": [409, "task_ended"],
    "answered": ["completed", True],
    "vendor": True,
    "listed": 1,
    "invalid": [400, "answers_required"],
    "deleted": 204,
    "gone": [404, "task_not_found"],
}

IN_PYTHON = """
import json, sys, time, uuid
from valro_api import Client
from valro_api.api.tasks import cancel_task, create_task, delete_task, get_task, list_tasks
from valro_api.models import NewTask, NewTaskAnswersType0, Status

client = Client(base_url=sys.argv[1])

def run(**fields):
    made = create_task.sync(client=client, body=NewTask(**fields), idempotency_key=str(uuid.uuid4()))
    while True:
        task = get_task.sync(made.id, client=client)
        if task.status in (Status.COMPLETED, Status.ERROR):
            return task
        time.sleep(0.2)

def error(response):
    return [int(response.status_code), response.parsed.code]

asked = run(description="Find me a painter in Austin [agent: ask]")
question = asked.interrupts[0]
alone = create_task.sync_detailed(client=client, body=NewTask(description="Yes", follows=asked.id))
answers = NewTaskAnswersType0.from_dict({question.id: True})
answered = run(description="Yes", follows=asked.id, answers=answers)
print(json.dumps({
    "asked": [asked.status.value, question.id],
    "refused": error(cancel_task.sync_detailed(answered.id, client=client)),
    "answered": [answered.status.value, answered.thread_id == asked.id],
    "vendor": asked.vendors[0].emails[0].recipient == asked.vendors[0].email,
    "listed": len(list_tasks.sync(client=client, limit=1, status=[Status.COMPLETED])),
    "invalid": error(alone),
    "deleted": int(delete_task.sync_detailed(answered.id, client=client).status_code),
    "gone": error(get_task.sync_detailed(answered.id, client=client)),
}))
"""

IN_TYPESCRIPT = """
import createClient from "openapi-fetch";
import type { components, paths } from "./openapi.js";

declare const process: { argv: string[] };
type Task = components["schemas"]["Task"];
const client = createClient<paths>({ baseUrl: process.argv[2]! });
const at = (id: string) => ({ params: { path: { id } } });

async function run(body: components["schemas"]["NewTask"]): Promise<Task> {
  const params = { header: { "Idempotency-Key": crypto.randomUUID() } };
  const { data: made } = await client.POST("/tasks", { body, params });
  for (;;) {
    const { data } = await client.GET("/tasks/{id}", at(made!.id));
    if (data!.status === "completed" || data!.status === "error") return data!;
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
}

function seen({ error, response }: { error?: components["schemas"]["AnyError"]; response: Response }) {
  return [response.status, error && "code" in error && error.code];
}

const asked = await run({ description: "Find me a painter in Austin [agent: ask]" });
const question = asked.interrupts![0]!;
const alone = await client.POST("/tasks", { body: { description: "Yes", follows: asked.id } });
const answered = await run({ description: "Yes", follows: asked.id, answers: { [question.id]: true } });
const vendor = asked.vendors[0]!;
const query = { limit: 1, status: ["completed" as const] };
console.log(JSON.stringify({
  asked: [asked.status, question.id],
  refused: seen(await client.POST("/tasks/{id}/cancel", at(answered.id))),
  answered: [answered.status, answered.thread_id === asked.id],
  vendor: vendor.emails[0]!.recipient === vendor.email,
  listed: (await client.GET("/tasks", { params: { query } })).data!.length,
  invalid: seen(alone),
  deleted: (await client.DELETE("/tasks/{id}", at(answered.id))).response.status,
  gone: seen(await client.GET("/tasks/{id}", at(answered.id))),
}));
"""


def run(folder: Path, *command: str | Path) -> str:
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=180)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout + result.stderr


def workshop(language: str) -> Path:
    """A folder in build/, where what the generators are is installed once."""
    folder = ROOT / "build/generated-clients" / language
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def test_a_python_client_by_openapi_python_client(stack: Deployment):
    if find_spec("ensurepip") is None:
        pytest.skip("This Python cannot make environments. On Debian: apt-get install python3-venv")
    folder = workshop(f"python{sys.version_info.minor}")
    bin_folder = folder / "venv/bin"
    if not (bin_folder / "openapi-python-client").exists():
        venv.create(folder / "venv", with_pip=True)
        pip = ("-m", "pip", "install", "--quiet", "--no-compile", "--only-binary", ":all:")
        run(folder, bin_folder / "python", *pip, *PYTHON_PACKAGES)
    make = ("generate", "--path", OPENAPI, "--output-path", "valro_api", "--meta", "none")
    # It looks for ruff on PATH, and says on stderr what of the document it has left out.
    said = run(folder, "env", f"PATH={bin_folder}", "openapi-python-client", *make, "--overwrite")

    assert said.splitlines() == ["Generating valro_api"]
    assert json.loads(run(folder, bin_folder / "python", "-c", IN_PYTHON, stack.api.url)) == SEEN


def test_a_typescript_client_by_openapi_typescript(stack: Deployment):
    if shutil.which("npm") is None:
        pytest.skip("There is no npm. On Debian and Ubuntu: apt-get install nodejs npm")
    folder = workshop("typescript")
    if not (folder / "node_modules/openapi-fetch").exists():
        (folder / "package.json").write_text('{"type": "module"}')
        run(folder, "npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", *NPM_PACKAGES)
    run(folder, "node_modules/.bin/openapi-typescript", OPENAPI, "--output", "openapi.ts")
    (folder / "use.ts").write_text(IN_TYPESCRIPT)
    options = "--strict --noUncheckedIndexedAccess --target ES2022 --module nodenext --skipLibCheck"
    run(folder, "node_modules/.bin/tsc", *options.split(), "use.ts")

    assert json.loads(run(folder, "node", "use.js", stack.api.url)) == SEEN
