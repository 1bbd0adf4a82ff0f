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
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.data import LISTS_TABLE
from benchmarks.servers import make_certificates

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / "build/bench"
RESULT = BUILD / "result.json"
PINS = ROOT / "requirements-bench.txt"
PEERS = sorted(Path(__file__).with_name("peers").glob("*.py"))

# The variables that Lambda and create-infrastructure.sh would set.
CONFIGURATION = {
    "AWS_REGION": "us-east-1",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_ACCESS_KEY_ID": "benchmark",
    "AWS_SECRET_ACCESS_KEY": "benchmark",
    "AWS_SESSION_TOKEN": "benchmark" * 40,
    "AWS_LAMBDA_FUNCTION_NAME": "valro-backend",
    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "512",
    "AWS_EXECUTION_ENV": "AWS_Lambda_python3.11",
    "DYNAMODB_TABLE_NAME": "valro-tasks",
    "WORKER_LAMBDA_ARN": "arn:aws:lambda:us-east-1:000000000000:function:valro-worker",
    "AGENT_RUNTIME_ARN": "arn:aws:bedrock-agentcore:us-east-1:000000000000:runtime/valro-0123456789",
}


@dataclass(frozen=True)
class Subject:
    """One way to write the API or the worker."""

    name: str
    label: str
    module: str
    packages: tuple[str, ...] = ()
    zip_name: str = ""
    table: str = CONFIGURATION["DYNAMODB_TABLE_NAME"]

    @property
    def is_worker(self) -> bool:
        """Whether it takes the worker's events."""
        return self.name.endswith("worker")


SUBJECTS = (
    Subject("valro", "Valro", "lambda_function", zip_name="valro-api-lambda.zip"),
    Subject("naive", "boto3.resource", "naive", ("boto3",)),
    Subject("naive_lists", "boto3.resource, own lists", "naive", ("boto3",), table=LISTS_TABLE),
    Subject("powertools", "Powertools", "powertools", ("boto3", "aws-lambda-powertools")),
    Subject("fastapi", "FastAPI + Mangum", "fastapi_mangum", ("boto3", "fastapi", "mangum")),
    Subject("floor", "the floor", "floor"),
    Subject("valro_worker", "Valro's worker", "worker_lambda", zip_name="valro-worker-lambda.zip"),
    Subject("naive_worker", "boto3.resource, worker", "naive_worker", ("boto3",)),
)


def prepare(build: Path, subjects: Iterable[Subject]) -> dict[str, Path]:
    """Packages subjects; returns the folder of each, by its name."""
    make_certificates(build / "certificates")
    build_zips(build / "sources")
    return {
        subject.name: unpack(subject, build) if subject.zip_name else install(subject, build)
        for subject in subjects
    }


def build_zips(copy: Path) -> None:
    """Builds the project's zips in a copy of the sources."""
    remove(copy)
    other = (".*", "build", "tests", "simulation", "node_modules", "__pycache__")
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(*other))
    cache = os.environ.get("VALRO_SDK_CACHE", str(ROOT / "build/sdk"))
    environment = os.environ | {"PYTHON": sys.executable, "VALRO_SDK_CACHE": cache}
    subprocess.run([copy / "deploy.sh"], env=environment, check=True, stdout=subprocess.DEVNULL)


def unpack(subject: Subject, build: Path) -> Path:
    """Unpacks one of the project's zips."""
    target = build / subject.name
    remove(target)
    with zipfile.ZipFile(build / "sources" / subject.zip_name) as archive:
        archive.extractall(target)
    return finish(target, build)


def install(subject: Subject, build: Path) -> Path:
    """Installs a peer and what it needs, unless that is done already."""
    digest = hashlib.sha256(f"{sys.version} {subject}".encode())
    for path in (PINS, build / "certificates/root.pem", *PEERS):
        digest.update(path.read_bytes())
    target = build / f"{subject.name}-{digest.hexdigest()[:12]}"
    if target.is_dir():
        return target
    for old in build.glob(f"{subject.name}-*"):
        remove(old)
    new = build / f"new-{subject.name}"
    remove(new)
    new.mkdir()
    if subject.packages:
        print(f"Packaging {subject.label} ...", file=sys.stderr, flush=True)
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-input"]
        command += ["--disable-pip-version-check", "--target", str(new), "--constraint", str(PINS)]
        subprocess.run([*command, *subject.packages], check=True, stderr=subprocess.DEVNULL)
    for module in PEERS:
        shutil.copy(module, new / module.name)
        compileall.compile_file(str(new / module.name), quiet=1)
    finish(new, build)
    new.rename(target)
    return target


def finish(folder: Path, build: Path) -> Path:
    """Has a subject's botocore trust the stub, and makes its folder unwritable."""
    roots = folder / "botocore/cacert.pem"
    if roots.is_file():
        root = (build / "certificates/root.pem").read_text()
        roots.write_text(f"{roots.read_text()}\n{root}")
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
