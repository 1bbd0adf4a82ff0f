"""What deploy.sh builds, and what it says when it cannot."""

import hashlib
import importlib.util
import marshal
import os
import re
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from subprocess import Popen
from typing import Any

import botocore.session
import pytest

ROOT = Path(__file__).resolve().parents[2]
SDK_CACHE = ROOT / "build/sdk"
MODULES = {
    path.relative_to(ROOT).as_posix() for path in (*ROOT.glob("*.py"), *ROOT.glob("valro/**/*.py"))
}
# What only the API's function imports, and what only the worker's zip has: the watcher is in it too.
OF_API = {"lambda_function.py", "valro/api_requests.py", "valro/http_events.py"}
OF_WORKER = {"worker_lambda.py", "watcher_lambda.py", "valro/agent/runtime.py", "valro/progress.py"}
ZIPS = ("valro-api-lambda.zip", "valro-worker-lambda.zip")
CONTENTS = {
    ZIPS[0]: (MODULES - OF_WORKER, {"dynamodb", "lambda"}),
    ZIPS[1]: (MODULES - OF_API, {"bedrock-agentcore", "dynamodb", "events", "lambda", "sqs"}),
}
MAXIMUM_ZIP_SIZE = 2_500_000


def copy_sources(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for path in (*ROOT.glob("*.py"), ROOT / "deploy.sh", ROOT / "requirements.txt"):
        shutil.copy(path, folder)
    # Without what Python has compiled of it here: a build must leave none behind.
    ignore = shutil.ignore_patterns("__pycache__")
    for name in ("bundle", "valro"):
        shutil.copytree(ROOT / name, folder / name, ignore=ignore)
    return folder


def start(folder: Path, *arguments: str, umask: int = 0o022, **settings: str) -> Popen[str]:
    """Starts a copy of deploy.sh. The SDK is installed once for all copies and kept between runs."""
    environment = {**os.environ, "PYTHON": sys.executable, "VALRO_SDK_CACHE": str(SDK_CACHE)}
    return Popen(
        ["bash", f"{folder}/deploy.sh", *arguments],
        cwd="/",
        env=environment | settings,
        umask=umask,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def run(*arguments: Any, **settings: Any) -> tuple[int, str, str]:
    """Runs a copy of deploy.sh; returns the exit code, what was printed, and what was said."""
    with start(*arguments, **settings) as process:
        printed, said = process.communicate(timeout=300)
    return process.returncode, printed, said


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which deploy.sh has built both zips."""
    folder = copy_sources(tmp_path_factory.mktemp("built") / "valro")
    status, _, said = run(folder)
    assert status == 0, said
    return folder


@pytest.fixture(params=ZIPS)
def archive(built: Path, request: pytest.FixtureRequest) -> Iterator[zipfile.ZipFile]:
    """Each zip that deploy.sh has built."""
    with zipfile.ZipFile(built / request.param) as archive:
        yield archive


@pytest.fixture
def workshop(tmp_path: Path) -> Path:
    """A folder with the sources and zips of an older build."""
    folder = copy_sources(tmp_path / "valro")
    for name in ZIPS:
        (folder / name).write_text("older")
    return folder


def refusal(folder: Path, **settings: str) -> str:
    """Runs a copy of deploy.sh, which must fail and change nothing; returns what it says."""
    status, _, said = run(folder, **settings)
    assert status == 1
    assert is_untouched(folder)
    return said


def is_untouched(folder: Path) -> bool:
    """Tells whether the older zips are still there and a build has left nothing else."""
    left = [*folder.glob("build/*"), *folder.rglob("__pycache__")]
    return not left and {(folder / name).read_text() for name in ZIPS} == {"older"}


# The same sources, the same bytes


@pytest.mark.e2e
def test_another_place_time_umask_and_environment_give_the_same_bytes(built: Path, tmp_path: Path):
    folder = copy_sources(tmp_path / "another place, ünïcode")
    for number, path in enumerate(folder.rglob("*")):
        path.chmod(0o700)
        os.utime(path, (1_000_000_000 + number, 1_000_000_000 + number))
    other = {"HOME": f"{tmp_path}", "VALRO_SDK_CACHE": f"{tmp_path}/sdk", "LC_ALL": "C"}
    other |= {"SOURCE_DATE_EPOCH": "1", "TZ": "UTC-9", "PYTHONOPTIMIZE": "2", "PYTHONSAFEPATH": "1"}
    other |= {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONHASHSEED": "12345", "PYTHONPATH": "/nowhere"}
    status, _, said = run(folder, umask=0o077, **other)
    assert status == 0, said
    for name in ZIPS:
        assert (folder / name).read_bytes() == (built / name).read_bytes()


@pytest.mark.e2e
def test_a_rebuild_needs_no_index_and_prints_each_zips_name_size_checksum_and_what_is_next(
    built: Path, workshop: Path
):
    status, printed, said = run(workshop, PIP_NO_INDEX="1", PIP_FIND_LINKS="")
    assert status == 0, said
    lines = []
    for name in ZIPS:
        data = (workshop / name).read_bytes()
        assert data == (built / name).read_bytes()
        lines.append(f"{name} {len(data)} bytes, sha256 {hashlib.sha256(data).hexdigest()}")
    assert printed.splitlines() == lines
    assert said.splitlines()[-1] == "Next: ./create-infrastructure.sh"
    assert list((workshop / "build").iterdir()) == []


# What is inside


@pytest.mark.e2e
def test_a_zip_holds_its_own_modules_the_sdk_and_its_licences_and_nothing_else(
    archive: zipfile.ZipFile,
):
    path = Path(str(archive.filename))
    modules, services = CONTENTS[path.name]
    assert path.stat().st_size <= MAXIMUM_ZIP_SIZE
    paths = archive.namelist()
    top = {path.partition("/")[0] for path in paths if ".dist-info/" not in path}
    packages = {"__pycache__", "valro", "botocore", "dateutil", "jmespath", "six.py", "urllib3"}
    assert top == {module for module in modules if "/" not in module} | packages
    own = {path for path in paths if path.startswith("valro/") and path.endswith(".py")}
    assert own == {module for module in modules if "/" in module}
    data = {path.split("/")[2] for path in paths if path.startswith("botocore/data/")}
    assert {entry for entry in data if not entry.endswith(".json")} == services
    licensed = {path.partition("-")[0] for path in paths if "/LICENSE" in path}
    assert licensed == {"botocore", "jmespath", "python_dateutil", "six", "urllib3"}
    assert [path for path in paths if re.fullmatch(r"botocore-[^/]*/NOTICE", path)]


@pytest.mark.e2e
def test_entries_are_readable_and_tell_of_no_machine_and_byte_code_is_never_compared_with_its_source(
    built: Path, archive: zipfile.ZipFile
):
    traces = [str(place).encode() for place in (built, ROOT, Path.home(), sys.prefix)]
    # The runtime that fits the byte code.
    assert archive.comment.decode() == f"python3.{sys.version_info.minor}"
    for entry in archive.infolist():
        content, path = archive.read(entry), entry.filename
        assert entry.external_attr >> 16 == 0o100644
        assert not [trace for trace in traces if trace in content], path
        if path.endswith(".py"):
            byte_code = archive.read(importlib.util.cache_from_source(path, optimization=""))
            assert byte_code[:8] == importlib.util.MAGIC_NUMBER + b"\x01\x00\x00\x00"
            assert byte_code[8:16] == importlib.util.source_hash(content)
            assert marshal.loads(byte_code[16:]).co_filename == f"/var/task/{path}"


# Refusals


@pytest.mark.parametrize("version", ["", "3.10", "3.99"])
def test_a_python_that_is_not_here_or_not_in_lambda_is_refused_before_anything_is_built(
    workshop: Path, tmp_path: Path, version: str
):
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\necho {version}\n")
    python.chmod(0o755 if version else 0o644)
    said = refusal(workshop, PYTHON=str(python))
    wrong = f"is Python {version}, for which Lambda has no runtime" if version else "that runs."
    assert wrong in said
    assert "PYTHON=/path/to/python3" in said


def test_the_pythons_that_deploy_accepts_are_those_of_lambda_and_of_the_template():
    match = re.search(r'^LAMBDA_PYTHONS="(.*)"$', (ROOT / "deploy.sh").read_text(), re.MULTILINE)
    assert match
    accepted = match[1].split()
    model = botocore.session.get_session().get_service_model("lambda")
    runtimes = " ".join(model.shape_for("Runtime").enum)
    minors = [int(minor) for minor in re.findall(r"\bpython3\.(\d+)", runtimes)]
    # 3.11 is the oldest that this project is written for.
    assert accepted == [f"3.{minor}" for minor in minors if minor >= 11]
    allowed = f"AllowedValues: [{', '.join(f'python{each}' for each in accepted)}]"
    assert allowed in (ROOT / "template.yaml").read_text()


@pytest.mark.parametrize("exit_code, chosen", [(0, "python3.11"), (127, "python3")])
def test_python_3_11_is_the_default_only_where_it_runs(tmp_path: Path, exit_code: int, chosen: str):
    """A version manager's stand-in for a Python that is not installed is no Python."""
    (tmp_path / "python3.11").write_text(f"#!/bin/sh\nexit {exit_code}\n")
    (tmp_path / "python3.11").chmod(0o755)
    command = ["/bin/bash", "-c", f"source '{ROOT}/deploy.sh' && choose_python"]
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    assert subprocess.check_output(command, env=environment, text=True) == f"{chosen}\n"


@pytest.mark.e2e
def test_no_package_index_is_a_sentence_and_leaves_nothing_half_installed(
    workshop: Path, tmp_path: Path
):
    settings = {"PIP_CONFIG_FILE": "/dev/null", "PIP_NO_CACHE_DIR": "1", "PIP_RETRIES": "0"}
    settings |= {"PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_EXTRA_INDEX_URL": ""}
    settings |= {"PIP_FIND_LINKS": "", "VALRO_SDK_CACHE": f"{tmp_path}/sdk"}
    said = refusal(workshop, **settings)
    assert "pip could not install requirements.txt" in said
    assert "No matching distribution found for" in said
    assert "check the network or the proxy, and try again" in said
    assert list((tmp_path / "sdk").iterdir()) == []


@pytest.mark.e2e
def test_a_syntax_error_is_named_and_older_zips_stay(built: Path, workshop: Path):
    (workshop / "valro/agent/runtime.py").write_text("def lambda_handler(event, context:\n")
    said = refusal(workshop)
    assert "valro/agent/runtime.py, line 1: '(' was never closed" in said
    assert "Traceback" not in said


@pytest.mark.e2e
@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_build_leaves_older_zips_and_no_rest(
    built: Path, workshop: Path, kind: signal.Signals
):
    # Whoever runs the tests may ignore it (nohup does), which a shell cannot undo.
    before = signal.signal(kind, signal.SIG_DFL)
    with start(workshop) as process:
        signal.signal(kind, before)
        next(line for line in process.stderr or () if line.startswith("Building valro"))
        # As the terminal does it: to the script and to what it runs.
        os.killpg(process.pid, kind)
        process.communicate(timeout=30)
    assert process.returncode != 0
    assert is_untouched(workshop)
