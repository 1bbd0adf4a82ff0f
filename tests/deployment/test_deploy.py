"""What deploy.sh puts into the zips, and what it says when it cannot."""

import hashlib
import importlib.util
import json
import marshal
import os
import re
import shutil
import signal
import subprocess
import sys
import types
import zipfile
from collections.abc import Iterator
from pathlib import Path

import botocore
import botocore.session
import pytest

import build_zips

ROOT = Path(__file__).resolve().parents[2]
SOURCES = [*sorted(path.name for path in ROOT.glob("*.py")), "deploy.sh", "requirements.txt"]
SHARED = {"dynamodb_helpers.py", "dynamodb_items.py", "tasks.py", "aws_lambda.py"}
ZIPS = {
    "valro-api-lambda.zip": {"lambda_function.py", "http_events.py", *SHARED},
    "valro-worker-lambda.zip": {
        "worker_lambda.py",
        "agent_runtime.py",
        "agent_answers.py",
        *SHARED,
    },
}
SERVICES = {
    "valro-api-lambda.zip": ["dynamodb", "lambda"],
    "valro-worker-lambda.zip": ["dynamodb", "bedrock-agentcore"],
}
MAXIMUM_ZIP_SIZE = 2_500_000

each_zip = pytest.mark.parametrize("name", list(ZIPS))


def copy_sources(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for name in SOURCES:
        shutil.copy(ROOT / name, folder / name)
    return folder


def deploy(
    folder: Path, *arguments: str, umask: int = 0o022, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Runs a copy of deploy.sh. The SDK is installed once for all copies and kept between runs."""
    variables = {
        **os.environ,
        "PYTHON": sys.executable,
        "VALRO_SDK_CACHE": str(ROOT / "build/sdk"),
        **(environment or {}),
    }
    return subprocess.run(
        [str(folder / "deploy.sh"), *arguments],
        cwd="/",
        env=variables,
        umask=umask,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which deploy.sh has built both zips."""
    folder = copy_sources(tmp_path_factory.mktemp("built") / "valro")
    result = deploy(folder)
    assert result.returncode == 0, result.stderr
    return folder


@pytest.fixture(scope="session")
def sdk(built: Path) -> Path:
    """The installed SDK from which the zips were made."""
    requirements = (built / "requirements.txt").read_bytes()
    return ROOT / "build/sdk" / hashlib.sha256(requirements).hexdigest()[:16]


@pytest.fixture
def workshop(tmp_path: Path) -> Path:
    """A folder with the sources and no zips."""
    return copy_sources(tmp_path / "valro")


def contents(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {entry.filename: archive.read(entry) for entry in archive.infolist()}


def code_objects(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from code_objects(constant)


# The same sources, the same bytes


@pytest.mark.e2e
def test_another_place_time_umask_and_environment_give_the_same_bytes(
    built: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "another place, ünïcode"
    folder.mkdir()
    for number, name in enumerate(reversed(SOURCES)):
        shutil.copyfile(ROOT / name, folder / name)
        (folder / name).chmod(0o700)
        os.utime(folder / name, (1_000_000_000 + number, 1_000_000_000 + number))
    result = deploy(
        folder,
        umask=0o077,
        environment={
            "HOME": str(tmp_path),
            "LC_ALL": "C",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONHASHSEED": "12345",
            "PYTHONOPTIMIZE": "2",
            "PYTHONPATH": "/nowhere",
            "SOURCE_DATE_EPOCH": "1",
            "TZ": "Asia/Tokyo",
            "VALRO_SDK_CACHE": str(tmp_path / "sdk"),
        },
    )
    assert result.returncode == 0, result.stderr
    for name in ZIPS:
        assert (folder / name).read_bytes() == (built / name).read_bytes()


@pytest.mark.e2e
@each_zip
def test_every_entry_is_a_readable_file_of_a_fixed_time_in_order(built: Path, name: str) -> None:
    with zipfile.ZipFile(built / name) as archive:
        entries = archive.infolist()
        assert archive.testzip() is None
    assert [entry.filename for entry in entries] == sorted(entry.filename for entry in entries)
    assert {entry.date_time for entry in entries} == {(1980, 1, 1, 0, 0, 0)}
    assert {entry.external_attr >> 16 for entry in entries} == {0o100644}
    assert not any(entry.is_dir() for entry in entries)


@pytest.mark.e2e
@each_zip
def test_nothing_tells_on_which_machine_it_was_built(built: Path, name: str) -> None:
    traces = [str(place).encode() for place in (built, ROOT, Path.home(), sys.prefix)]
    for path, data in contents(built / name).items():
        assert not [trace for trace in traces if trace in data], path


@pytest.mark.e2e
def test_deploy_prints_name_size_and_checksum_of_each_zip_and_the_next_command(
    workshop: Path,
) -> None:
    result = deploy(workshop)
    lines = []
    for name in ZIPS:
        data = (workshop / name).read_bytes()
        lines.append(f"{name} {len(data)} bytes, sha256 {hashlib.sha256(data).hexdigest()}")
    assert result.stdout.splitlines() == lines
    assert result.stderr.splitlines()[-1] == "Next: ./create-infrastructure.sh"
    assert list((workshop / "build").iterdir()) == []


# What is inside


@pytest.mark.e2e
@each_zip
def test_a_zip_is_small(built: Path, name: str) -> None:
    assert (built / name).stat().st_size <= MAXIMUM_ZIP_SIZE


@pytest.mark.e2e
@each_zip
def test_a_zip_holds_its_own_modules_and_the_sdk_and_nothing_else(built: Path, name: str) -> None:
    paths = {Path(path) for path in contents(built / name)}
    top = {path.name for path in paths if len(path.parts) == 1}
    assert top == ZIPS[name] | {"six.py"}
    folders = {path.parts[0] for path in paths if len(path.parts) > 1}
    packages = {folder for folder in folders if not folder.endswith(".dist-info")}
    assert packages == {"__pycache__", "botocore", "dateutil", "jmespath", "urllib3"}
    models = {path.parts[2] for path in paths if path.parts[:2] == ("botocore", "data")}
    shared = {path for path in models if path.endswith(".json")}
    assert models - shared == set(SERVICES[name])


@pytest.mark.e2e
@each_zip
def test_the_licences_of_what_is_bundled_are_bundled_too(built: Path, name: str) -> None:
    requirements = re.findall(
        r"^([\w-]+)==([\w.]+)", (ROOT / "requirements.txt").read_text(), re.MULTILINE
    )
    assert requirements
    paths = list(contents(built / name))
    for package, version in requirements:
        folder = f"{package.replace('-', '_')}-{version}.dist-info/"
        assert [path for path in paths if path.startswith(folder) and "LICENSE" in path], package
    assert [path for path in paths if re.fullmatch(r"botocore-[^/]*/NOTICE", path)]


@pytest.mark.e2e
@each_zip
def test_the_comment_names_the_runtime_that_fits_the_byte_code(built: Path, name: str) -> None:
    with zipfile.ZipFile(built / name) as archive:
        assert archive.comment.decode() == f"python3.{sys.version_info.minor}"


@pytest.mark.e2e
@each_zip
def test_every_source_has_byte_code_that_is_never_compared_with_it(built: Path, name: str) -> None:
    files = contents(built / name)
    sources = [path for path in files if path.endswith(".py")]
    for path in sources:
        byte_code = files[importlib.util.cache_from_source(path, optimization="")]
        assert byte_code[:4] == importlib.util.MAGIC_NUMBER
        assert byte_code[4:8] == b"\x01\x00\x00\x00"
        assert byte_code[8:16] == importlib.util.source_hash(files[path])
        names = {code.co_filename for code in code_objects(marshal.loads(byte_code[16:]))}
        assert names == {f"/var/task/{path}"}
    assert len([path for path in files if path.endswith(".pyc")]) == len(sources)


@pytest.mark.e2e
@each_zip
def test_every_operation_that_the_sources_call_is_bundled(built: Path, name: str) -> None:
    session = botocore.session.get_session()
    text = "\n".join((ROOT / source).read_text() for source in ZIPS[name])
    called = set(re.findall(r"\.(\w+)\(", text))
    files = contents(built / name)
    for service in SERVICES[name]:
        path = next(
            path
            for path in files
            if re.fullmatch(rf"botocore/data/{service}/[\d-]+/service-2.json", path)
        )
        bundled = set(json.loads(files[path])["operations"])
        known = session.get_service_model(service).operation_names
        wanted = {operation for operation in known if botocore.xform_name(operation) in called}
        assert wanted, service
        assert wanted <= bundled


# By itself

ALONE = """
import importlib.machinery, json, sys

folder, handler, *services = sys.argv[1:]
compiler = importlib.machinery.SourceFileLoader.source_to_code

def refuse(self, data, path, **options):
    assert not path.startswith(folder), f"{path} had to be compiled"
    return compiler(self, data, path, **options)

importlib.machinery.SourceFileLoader.source_to_code = refuse
before = set(sys.modules)
sys.path[:0] = [folder]
module = __import__(handler)
assert callable(module.lambda_handler)

import botocore.session
session = botocore.session.get_session()
for service in services:
    session.create_client(
        service, region_name="eu-central-1", aws_access_key_id="a", aws_secret_access_key="b"
    )
places = {}
for name in set(sys.modules) - before:
    file = getattr(sys.modules[name], "__file__", None)
    if file and name.partition(".")[0] not in sys.stdlib_module_names:
        places[name] = file
print(json.dumps(places))
"""


def run_alone(folder: Path, name: str) -> dict[str, str]:
    """Imports a handler and makes its clients; returns where each module came from."""
    handler = "lambda_function" if "api" in name else "worker_lambda"
    result = subprocess.run(
        [sys.executable, "-I", "-S", "-c", ALONE, str(folder), handler, *SERVICES[name]],
        env={"AWS_CONFIG_FILE": "/dev/null", "AWS_SHARED_CREDENTIALS_FILE": "/dev/null"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.returncode == 0, result.stderr
    places: dict[str, str] = json.loads(result.stdout)
    return places


@pytest.mark.e2e
@each_zip
def test_a_zip_runs_with_nothing_else_to_import_from_and_compiles_nothing(
    built: Path, tmp_path: Path, name: str
) -> None:
    folder = tmp_path / "vär task"
    with zipfile.ZipFile(built / name) as archive:
        archive.extractall(folder)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    places = run_alone(folder, name)
    assert {"botocore.session", "botocore.client", "urllib3"} <= set(places)
    assert [place for place in places.values() if not place.startswith(f"{folder}/")] == []
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


# Refusals


def fake_python(folder: Path, version: str) -> str:
    """A Python that knows its version and nothing else."""
    path = folder / f"python{version}"
    path.write_text(f"#!/bin/sh\necho {version}\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize("version", ["3.9", "3.10", "3.99"])
def test_a_python_without_a_lambda_runtime_is_refused_before_anything_is_built(
    workshop: Path, tmp_path: Path, version: str
) -> None:
    result = deploy(workshop, environment={"PYTHON": fake_python(tmp_path, version)})
    assert result.returncode == 1
    assert f"is Python {version}, for which Lambda has no runtime" in result.stderr
    assert "PYTHON=/path/to/python3.11 ./deploy.sh" in result.stderr
    assert {path.name for path in workshop.iterdir()} == set(SOURCES)


def test_a_python_that_does_not_exist_is_refused_with_what_to_do(workshop: Path) -> None:
    result = deploy(workshop, environment={"PYTHON": "no-such-python"})
    assert result.returncode == 1
    assert "there is no 'no-such-python' that runs" in result.stderr
    assert {path.name for path in workshop.iterdir()} == set(SOURCES)


def test_the_pythons_that_deploy_accepts_are_those_that_lambda_has() -> None:
    match = re.search(r'^LAMBDA_PYTHONS="(.*)"$', (ROOT / "deploy.sh").read_text(), re.MULTILINE)
    assert match
    model = botocore.session.get_session().get_service_model("lambda")
    runtimes = model.shape_for("Runtime").enum
    pythons = [name.removeprefix("python") for name in runtimes if name.startswith("python3")]
    # 3.11 is the oldest that this project is written for.
    assert match[1].split() == [
        version for version in pythons if int(version.partition(".")[2]) >= 11
    ]


@pytest.mark.e2e
def test_no_package_index_is_a_sentence_and_leaves_nothing_half_installed(
    workshop: Path, tmp_path: Path
) -> None:
    cache = tmp_path / "sdk"
    offline = {
        "VALRO_SDK_CACHE": str(cache),
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_EXTRA_INDEX_URL": "",
        "PIP_FIND_LINKS": "",
        "PIP_INDEX_URL": "http://127.0.0.1:9/simple",
        "PIP_NO_CACHE_DIR": "1",
        "PIP_RETRIES": "0",
    }
    result = deploy(workshop, environment=offline)
    assert result.returncode == 1
    assert "pip could not install requirements.txt" in result.stderr
    assert "check the network or the proxy, and try again" in result.stderr
    assert list(cache.iterdir()) == []
    assert not (workshop / "valro-api-lambda.zip").exists()


@pytest.mark.e2e
def test_a_rebuild_needs_no_package_index(built: Path) -> None:
    before = {name: (built / name).read_bytes() for name in ZIPS}
    result = deploy(built, environment={"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": ""})
    assert result.returncode == 0, result.stderr
    assert {name: (built / name).read_bytes() for name in ZIPS} == before


@pytest.mark.e2e
def test_a_syntax_error_is_named_and_older_zips_stay(workshop: Path) -> None:
    for name in ZIPS:
        (workshop / name).write_text("older")
    (workshop / "worker_lambda.py").write_text("def lambda_handler(event, context:\n")
    result = deploy(workshop)
    assert result.returncode == 1
    assert "worker_lambda.py, line 1: '(' was never closed" in result.stderr
    assert "Traceback" not in result.stderr
    assert {(workshop / name).read_text() for name in ZIPS} == {"older"}
    assert list((workshop / "build").iterdir()) == []


@pytest.mark.e2e
@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_build_leaves_older_zips_and_no_rest(
    workshop: Path, kind: signal.Signals
) -> None:
    for name in ZIPS:
        (workshop / name).write_text("older")
    with subprocess.Popen(
        [str(workshop / "deploy.sh")],
        env={
            **os.environ,
            "PYTHON": sys.executable,
            "VALRO_SDK_CACHE": str(ROOT / "build/sdk"),
        },
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # Whoever runs the tests may ignore it (nohup does), which a shell cannot undo.
        preexec_fn=lambda: signal.signal(kind, signal.SIG_DFL),  # noqa: PLW1509
    ) as process:
        assert process.stderr
        for line in process.stderr:
            if line.startswith("Building valro"):
                break
        # As the terminal does it: to the script and to what it runs.
        os.killpg(process.pid, kind)
        process.stderr.read()
        assert process.wait(timeout=30) != 0
    assert {(workshop / name).read_text() for name in ZIPS} == {"older"}
    assert list((workshop / "build").iterdir()) == []


def test_help_says_how_to_use_it(workshop: Path) -> None:
    result = deploy(workshop, "--help")
    assert result.returncode == 0
    assert "Usage: ./deploy.sh" in result.stdout
    assert "PYTHON" in result.stdout


def test_an_unknown_argument_is_refused(workshop: Path) -> None:
    result = deploy(workshop, "--fast")
    assert result.returncode == 2
    assert "unknown argument '--fast'" in result.stderr
    assert {path.name for path in workshop.iterdir()} == set(SOURCES)


def test_its_functions_can_be_sourced_without_building(workshop: Path) -> None:
    assert chosen_python(workshop, {"PYTHON": "mine"}) == "mine"
    assert {path.name for path in workshop.iterdir()} == set(SOURCES)


def chosen_python(folder: Path, environment: dict[str, str]) -> str:
    result = subprocess.run(
        ["/bin/bash", "-c", f"source '{folder}/deploy.sh' && choose_python"],
        env={"PATH": "/usr/bin:/bin", **environment},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.rstrip("\n")


@pytest.mark.parametrize("exit_code, chosen", [(0, "python3.11"), (127, "python3")])
def test_python_3_11_is_the_default_only_where_it_runs(
    workshop: Path, tmp_path: Path, exit_code: int, chosen: str
) -> None:
    """A version manager's stand-in for a Python that is not installed is no Python."""
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "python3.11").write_text(f"#!/bin/sh\nexit {exit_code}\n")
    (programs / "python3.11").chmod(0o755)
    assert chosen_python(workshop, {"PATH": f"{programs}:/usr/bin:/bin"}) == chosen


@pytest.mark.e2e
def test_byte_code_of_another_python_fails_the_build(
    workshop: Path, sdk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it would be compiled again at every cold start, since nothing can be kept there."""
    monkeypatch.setattr(importlib.util, "MAGIC_NUMBER", b"old\n")
    with pytest.raises(build_zips.BuildError, match=r"lambda_function\.py has no byte code"):
        build(workshop, sdk)


# What botocore may move


def build(sources: Path, sdk: Path) -> None:
    """Builds without deploy.sh, so that one thing at a time can be wrong."""
    work = sources / "work"
    work.mkdir()
    build_zips.build_all(sources, sdk, work, sources)


def changed_sdk(sdk: Path, folder: Path) -> Path:
    """A copy of the SDK that can be broken, without the data of the services nobody uses."""
    used = {"dynamodb", "lambda", "bedrock-agentcore"}

    def unused(place: str, names: list[str]) -> list[str]:
        data = Path(place) == sdk / "botocore/data"
        return [name for name in names if data and "." not in name and name not in used]

    shutil.copytree(sdk, folder, ignore=unused)
    return folder


@pytest.mark.e2e
@pytest.mark.parametrize(
    "moved",
    [
        "botocore/cacert.pem",
        "botocore/data/partitions.json",
        "botocore/data/sdk-default-configuration.json",
        "botocore/data/_retry.json",
        "botocore/data/lambda",
        "botocore/data/dynamodb/2012-08-10/endpoint-rule-set-1.json.gz",
    ],
)
def test_data_that_botocore_no_longer_has_where_it_was_fails_the_build_by_name(
    workshop: Path, sdk: Path, tmp_path: Path, moved: str
) -> None:
    broken = changed_sdk(sdk, tmp_path / "sdk")
    (broken / moved).rename(tmp_path / "moved")
    with pytest.raises(build_zips.BuildError, match=re.escape(moved.removesuffix(".gz"))):
        build(workshop, broken)


@pytest.mark.e2e
def test_data_that_botocore_newly_reads_fails_the_build(
    workshop: Path, sdk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build_zips, "SHARED_DATA", ("_retry.json", "partitions.json"))
    with pytest.raises(build_zips.BuildError, match="sdk-default-configuration"):
        build(workshop, sdk)


@pytest.mark.e2e
def test_a_module_that_is_cut_and_yet_imported_fails_the_build_by_name(
    workshop: Path, sdk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build_zips, "UNUSED_MODULES", ("botocore.regions",))
    with pytest.raises(build_zips.BuildError, match=r"botocore\.regions is imported, but not in"):
        build(workshop, sdk)


@pytest.mark.e2e
def test_a_module_that_is_cut_and_whose_import_is_allowed_to_fail_fails_the_build_too(
    workshop: Path, sdk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An SDK that quietly does without a module could quietly do without its security."""
    changed = changed_sdk(sdk, tmp_path / "sdk")
    with (changed / "botocore/session.py").open("a") as file:
        file.write("\ntry:\n    import botocore.stub\nexcept ImportError:\n    pass\n")
    monkeypatch.setattr(build_zips, "UNUSED_MODULES", ("botocore.stub",))
    with pytest.raises(build_zips.BuildError, match=r"not in the zip: botocore\.stub"):
        build(workshop, changed)


def test_an_import_that_is_bundled_by_nobody_is_refused(workshop: Path, tmp_path: Path) -> None:
    (workshop / "lambda_function.py").write_text("import boto3\n\ndef lambda_handler(): ...\n")
    (tmp_path / "sdk").mkdir()
    with pytest.raises(build_zips.BuildError, match=r"lambda_function\.py imports boto3"):
        build(workshop, tmp_path / "sdk")


@pytest.mark.parametrize("service", ["dynamodb", "lambda", "bedrock-agentcore"])
def test_operations_are_called_by_the_names_that_botocore_gives_them(service: str) -> None:
    operations = botocore.session.get_session().get_service_model(service).operation_names
    assert operations
    for operation in operations:
        assert build_zips.snake_case(operation) == botocore.xform_name(operation)


def test_a_cut_model_keeps_what_its_operations_need_and_every_exception() -> None:
    loader = botocore.session.get_session().get_component("data_loader")
    model = loader.load_service_model("dynamodb", "service-2")
    cut = build_zips.cut_model(model, {"GetItem"})
    assert list(cut["operations"]) == ["GetItem"]
    assert "AttributeValue" in cut["shapes"]
    assert "CreateTableInput" not in cut["shapes"]
    exceptions = {name for name, shape in model["shapes"].items() if shape.get("exception")}
    assert exceptions <= set(cut["shapes"])
    assert cut["metadata"] == model["metadata"]


def test_a_member_that_is_called_documentation_stays() -> None:
    shape = {
        "type": "structure",
        "documentation": "About it.",
        "members": {"documentation": {"shape": "Text", "documentation": "What it says."}},
    }
    assert build_zips.undocumented(shape) == {
        "type": "structure",
        "members": {"documentation": {"shape": "Text"}},
    }


def test_imports_inside_functions_and_relative_ones_are_found() -> None:
    source = b"""
import a.b
from . import c
from ..d import e
def later():
    from f import g
"""
    assert set(build_zips.imported_names("package/module.py", source, "top.package")) == {
        *("a.b", "a"),
        *("top.package", "top", "top.package.c"),
        *("top.d", "top.d.e"),
        *("f", "f.g"),
    }


# Pins


def pins(name: str) -> dict[str, str]:
    return dict(
        re.findall(r"^([\w.-]+)(?:\[\w+\])?==([\w.]+)", (ROOT / name).read_text(), re.MULTILINE)
    )


def test_development_uses_the_sdk_that_is_deployed() -> None:
    deployed = pins("requirements.txt")
    development = pins("requirements-dev.txt")
    assert deployed
    assert {name: development.get(name) for name in deployed} == deployed


def test_every_requirement_of_the_zips_is_pinned_to_its_bytes() -> None:
    text = (ROOT / "requirements.txt").read_text()
    assert len(re.findall(r"--hash=sha256:[0-9a-f]{64}$", text, re.MULTILINE)) == len(
        pins("requirements.txt")
    )
