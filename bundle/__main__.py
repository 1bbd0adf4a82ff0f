"""Builds both zips: what goes in is put together in a folder, checked there, and zipped.

The same sources give the same bytes: names are sorted, times and permissions are fixed, and nothing
of the machine that builds goes in. Each zip's comment names the Lambda runtime that its byte code
fits, for example ``python3.11``.
"""

import argparse
import hashlib
import os
import py_compile
import re
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

from bundle import BundleError, certificates, check, models, modules, sdk

ROOT = Path(__file__).resolve().parents[1]

# Where Lambda unpacks a function; tracebacks show these paths.
LAMBDA_ROOT = "/var/task"

# The oldest time that a zip can hold.
ZIP_TIME = (1980, 1, 1, 0, 0, 0)
ZIP_PERMISSIONS = 0o100644

# Apache 2.0 and MIT ask that these go wherever the code goes.
LICENCE_FILE = re.compile(r"LICEN[CS]E|NOTICE|COPYING", re.IGNORECASE)


@dataclass(frozen=True)
class Zip:
    """One zip: its name, the modules that hold its handlers, the services that they call."""

    zip_name: str
    handlers: tuple[str, ...]
    services: tuple[str, ...]


ZIPS = (
    Zip("valro-api-lambda.zip", ("lambda_function",), ("dynamodb", "lambda")),
    Zip(
        "valro-worker-lambda.zip",
        ("worker_lambda", "watcher_lambda"),
        ("bedrock-agentcore", "dynamodb", "events", "lambda", "sqs"),
    ),
)


def main() -> int:
    """Runs from the command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bundle", description="Builds both zips.")
    parser.add_argument("--cache", type=Path, required=True, help="folder for the installed SDK")
    parser.add_argument("--work", type=Path, required=True, help="an empty folder beside the zips")
    options = parser.parse_args()
    try:
        installed = sdk.installed(ROOT / "requirements.txt", options.cache, options.work)
        build_all(ROOT, installed, options.work)
    except (BundleError, ImportError) as error:
        print(error, file=sys.stderr)
        return 1
    except SyntaxError as error:
        print(f"{error.filename}, line {error.lineno}: {error.msg}", file=sys.stderr)
        return 1
    return 0


def build_all(sources: Path, installed: Path, work: Path) -> None:
    """Builds both zips in a work folder, checks both, and only then puts them beside the sources."""
    trimmed = work.resolve() / "sdk"
    modules.copy_trimmed(installed, trimmed)
    certificates.keep_those_of_aws(trimmed)
    for wanted in ZIPS:
        print(f"Building {wanted.zip_name} ...", file=sys.stderr, flush=True)
        folder = work / Path(wanted.zip_name).stem
        for path, content in contents(wanted, sources, installed, trimmed).items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(content)
        add_byte_code(folder)
        run_check(wanted, folder, trimmed)
        write_zip(folder, work / wanted.zip_name)
    for wanted in ZIPS:
        data = (work / wanted.zip_name).read_bytes()
        (work / wanted.zip_name).replace(sources / wanted.zip_name)
        print(wanted.zip_name, len(data), "bytes, sha256", hashlib.sha256(data).hexdigest())


def contents(wanted: Zip, sources: Path, installed: Path, trimmed: Path) -> dict[str, bytes]:
    """Returns what goes into a zip beside byte code: contents by path."""
    own, of_sdk = modules.imported_by(wanted.handlers, sources, trimmed)
    licences = (path for path in trimmed.glob("*.dist-info/**/*") if LICENCE_FILE.match(path.name))
    others = [file for file in (trimmed / certificates.BUNDLE, *licences) if file.is_file()]
    files = own | of_sdk | {file.relative_to(trimmed).as_posix(): file for file in others}
    calling = "\n".join(path.read_text(encoding="utf-8") for path in own.values())
    data = models.client_data(installed / "botocore/data", wanted.services, calling)
    return data | {path: file.read_bytes() for path, file in files.items()}


def add_byte_code(folder: Path) -> None:
    """Compiles every module in a folder, to what Python takes without a look at the source."""
    for source in sorted(folder.rglob("*.py")):
        py_compile.compile(
            str(source),
            dfile=f"{LAMBDA_ROOT}/{source.relative_to(folder).as_posix()}",
            doraise=True,
            optimize=0,
            invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
        )


def run_check(wanted: Zip, folder: Path, trimmed: Path) -> None:
    """Runs a zip's content in a Python that has nothing else to import from."""
    # Nothing of the user's AWS settings: a profile must not decide whether a zip is good.
    environment = {"AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull}
    program = [sys.executable, "-ISB", check.__file__]
    result = subprocess.run(
        [*program, str(folder), str(trimmed), ",".join(wanted.handlers), *wanted.services],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode != 0:
        raise BundleError(
            f"{wanted.zip_name} would not run by itself:\n{result.stderr.strip()}\n"
            "If botocore was upgraded, see what moved, and correct bundle/."
        )


def write_zip(folder: Path, path: Path) -> None:
    """Zips a folder; the zip depends on nothing but its content and this Python's version."""
    files = {file.relative_to(folder).as_posix(): file for file in folder.rglob("*")}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        archive.comment = f"python{sys.version_info.major}.{sys.version_info.minor}".encode()
        for name, file in sorted(files.items()):
            if file.is_file():
                entry = zipfile.ZipInfo(name, ZIP_TIME)
                entry.create_system = 3  # Unix, whatever builds
                entry.external_attr = ZIP_PERMISSIONS << 16
                archive.writestr(entry, file.read_bytes(), zipfile.ZIP_DEFLATED, 9)


if __name__ == "__main__":
    sys.exit(main())
