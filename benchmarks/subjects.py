"""The subjects: the project's own zips, and the same API in other ways, packaged fairly.

The project's zips are built by its own ``deploy.sh``, from a copy of the sources. The others are
``pip install --target``, which compiles byte code, with their module beside it, as people do; they
all carry the same botocore. Everything is made unwritable, and Python is told to write no byte code
(root could), so that no run makes the next one faster. The one thing added to all of them is the
stub's root certificate, beside the roots that they have.
"""

from __future__ import annotations

import compileall
import hashlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.data import NATIVE_TABLE
from benchmarks.servers import make_certificates

ROOT = Path(__file__).resolve().parents[1]
SOURCES = Path(__file__).resolve().parent / "peers"
EVENTS = Path(__file__).with_name("events.json")  # as an HTTP API and a REST API send them
PINS = ROOT / "requirements-bench.txt"
DEPLOYED = [
    *sorted(path.name for path in ROOT.glob("*.py")),
    "deploy.sh",
    "requirements.txt",
]
ZIPS = {"valro": "valro-api-lambda.zip", "valro_worker": "valro-worker-lambda.zip"}

ARN = "arn:aws:lambda:us-east-1:000000000000:function:valro-worker"
AGENT_ARN = "arn:aws:bedrock-agentcore:us-east-1:000000000000:runtime/valro-0123456789"


@dataclass(frozen=True)
class Subject:
    """One way to write the API or the worker."""

    name: str
    label: str
    module: str
    packages: tuple[str, ...] = ()
    is_worker: bool = False
    is_rest: bool = False  # takes a REST API's events (payload 1.0)
    needs: tuple[str, ...] = ()  # other modules of peers/
    table: str = field(default="valro-tasks", repr=False)


def of_naive(module: str, label: str, *packages: str, is_rest: bool = False) -> Subject:
    """The API of boto3.resource with a framework before it."""
    needs = ("naive", "models") if "pydantic" in packages else ("naive",)
    return Subject(module, label, module, ("boto3", *packages), is_rest=is_rest, needs=needs)


SUBJECTS = (
    Subject("valro", "Valro", "lambda_function"),
    Subject("naive", "boto3.resource", "naive", ("boto3",)),
    of_naive("powertools", "Powertools", "aws-lambda-powertools"),
    of_naive("powertools_pydantic", "Powertools + pydantic", "aws-lambda-powertools", "pydantic"),
    of_naive("fastapi_mangum", "FastAPI + Mangum", "fastapi", "mangum", "pydantic"),
    of_naive("chalice_app", "Chalice", "chalice", is_rest=True),
    Subject("plain_botocore", "plain botocore", "plain_botocore", ("botocore",), needs=("typed",)),
    Subject("floor", "the floor", "floor", needs=("typed",)),
    Subject("naive_native", "boto3.resource, own lists", "naive", ("boto3",), table=NATIVE_TABLE),
    Subject("valro_worker", "Valro's worker", "worker_lambda", is_worker=True),
    Subject("naive_worker", "boto3.resource, worker", "naive_worker", ("boto3",), is_worker=True),
)


def prepare(folder: Path, subjects: Iterable[Subject] = SUBJECTS) -> dict[str, Path]:
    """Packages subjects; returns the folder of each, by its name."""
    make_certificates(certificates(folder))
    return build_zips(folder) | {
        subject.name: install(subject, folder) for subject in subjects if subject.name not in ZIPS
    }


def certificates(folder: Path) -> Path:
    """The folder of the stub's certificates."""
    return folder / "certificates"


def trust(target: Path, folder: Path) -> None:
    """Adds the stub's root to those that a subject's botocore brings along."""
    roots = target / "botocore/cacert.pem"
    if roots.is_file():
        roots.write_text(f"{roots.read_text()}\n{(certificates(folder) / 'root.pem').read_text()}")


def build_zips(folder: Path) -> dict[str, Path]:
    """Builds the project's zips from a copy of the sources; returns where they are unpacked."""
    copy = folder / "sources"
    remove(copy)
    copy.mkdir()
    for name in DEPLOYED:
        shutil.copy(ROOT / name, copy / name)
    for name in ("bundle", "valro"):
        shutil.copytree(ROOT / name, copy / name)
    cache = os.environ.get("VALRO_SDK_CACHE", str(ROOT / "build/sdk"))
    environment = os.environ | {"PYTHON": sys.executable, "VALRO_SDK_CACHE": cache}
    subprocess.run([copy / "deploy.sh"], env=environment, check=True, stdout=subprocess.DEVNULL)
    unpacked = {}
    for name, zip_name in ZIPS.items():
        target = folder / name
        remove(target)
        with zipfile.ZipFile(copy / zip_name) as archive:
            archive.extractall(target)
        trust(target, folder)
        unpacked[name] = protect(target)
    return unpacked


def install(subject: Subject, folder: Path) -> Path:
    """Installs a peer and what it needs, unless that is done already."""
    modules = [SOURCES / f"{name}.py" for name in (subject.module, *subject.needs)]
    digest = hashlib.sha256(sys.version.encode() + PINS.read_bytes())
    digest.update((certificates(folder) / "root.pem").read_bytes())
    digest.update(repr(subject).encode())
    for module in modules:
        digest.update(module.read_bytes())
    target = folder / f"{subject.name}-{digest.hexdigest()[:12]}"
    if target.is_dir():
        return target
    for old in folder.glob(f"{subject.name}-*"):
        remove(old)
    new = folder / f"new-{subject.name}"
    remove(new)
    new.mkdir()
    if subject.packages:
        print(f"Packaging {subject.label} ...", file=sys.stderr, flush=True)
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-input"]
        command += ["--disable-pip-version-check", "--target", str(new), "--constraint", str(PINS)]
        subprocess.run([*command, *subject.packages], check=True, stderr=subprocess.DEVNULL)
    for module in modules:
        shutil.copy(module, new / module.name)
        compileall.compile_file(str(new / module.name), quiet=1)
    trust(new, folder)
    new.rename(target)
    return protect(target)


def protect(folder: Path) -> Path:
    """Makes a folder unwritable."""
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    return folder


def remove(folder: Path) -> None:
    """Removes a folder that may be unwritable."""
    if folder.is_dir():
        for path in (folder, *folder.rglob("*")):
            if path.is_dir():
                path.chmod(0o755)
        shutil.rmtree(folder)


def environment(ports: dict[str, int], scheme: str, work: Path) -> dict[str, str]:
    """The variables that Lambda and create-infrastructure.sh would set, and the stub's address."""
    url = f"{scheme}://127.0.0.1:{ports[scheme]}"
    return {
        "PATH": os.defpath,
        "LANG": "C.UTF-8",
        "HOME": str(work),
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "benchmark",
        "AWS_SECRET_ACCESS_KEY": "benchmark",
        "AWS_SESSION_TOKEN": "benchmark" * 40,
        "AWS_LAMBDA_FUNCTION_NAME": "valro-backend",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "512",
        "AWS_EXECUTION_ENV": "AWS_Lambda_python3.11",
        "AWS_ENDPOINT_URL_DYNAMODB": url,
        "AWS_ENDPOINT_URL_LAMBDA": url,
        "AWS_ENDPOINT_URL_BEDROCK_AGENTCORE": url,
        # Read by the floor only, in place of the system's.
        "SSL_CERT_FILE": str(certificates(work.parent) / "bundle.pem"),
        "DYNAMODB_TABLE_NAME": "valro-tasks",
        "WORKER_LAMBDA_ARN": ARN,
        "AGENT_RUNTIME_ARN": AGENT_ARN,
    }


def event(subject: Subject, operation: str, task_id: str, description: str) -> dict[str, Any]:
    """What Lambda would hand the subject for ``get``, ``post``, ``list`` or ``run``."""
    if subject.is_worker:
        created = "2025-10-31T23:59:01.250000Z"
        return {"task_id": task_id, "description": description, "created_at": created}
    method = "POST" if operation == "post" else "GET"
    path = f"/tasks/{task_id}" if operation == "get" else "/tasks"
    query = {"limit": "100"} if operation == "list" else None
    body = f'{{"description": "{description}"}}' if operation == "post" else None
    sent: dict[str, Any] = json.loads(EVENTS.read_text())["rest" if subject.is_rest else "http"]
    sent |= {"queryStringParameters": query} if query or subject.is_rest else {}
    if not subject.is_rest:
        route = {"routeKey": f"{method} {path}"}
        sent |= route | {"rawPath": path, "rawQueryString": "limit=100" if query else ""}
        sent["requestContext"] |= route
        sent["requestContext"]["http"] |= {"method": method, "path": path}
        return sent | ({"body": body} if body else {})
    resource = "/tasks/{task_id}" if operation == "get" else "/tasks"
    sent["requestContext"] |= {"resourcePath": resource, "httpMethod": method, "path": path}
    return sent | {
        "resource": resource,
        "path": path,
        "httpMethod": method,
        "multiValueHeaders": {name: [value] for name, value in sent["headers"].items()},
        "multiValueQueryStringParameters": {"limit": ["100"]} if query else None,
        "pathParameters": {"task_id": task_id} if operation == "get" else None,
        "body": body,
    }
