"""Builds the two Lambda zips from the project's modules and an installed AWS SDK.

``deploy.sh`` runs this; it is separate because bash does it badly. It is not for running in Lambda.

What is in a zip: the function's own modules, the modules of the SDK that they import, directly or
not, and the AWS service models of the operations that they call. Beside every module stands its
byte code, since Lambda's /var/task is read-only: without it every cold start would compile
everything again. The byte code is of the "unchecked hash" kind, which Python takes without looking
at the source's time or content, and it names its sources as /var/task/...

The sources are there too. Byte code alone would do and make a zip a third smaller, but it starts no
faster, tracebacks would show no lines, and a function set to another runtime would not start.

The same sources give the same bytes: names are sorted, times and permissions are fixed, and nothing
of the machine that builds goes in. Each zip's comment names the Lambda runtime that its byte code
fits, for example ``python3.11``.

Three places of the SDK are changed for a faster cold start (REPLACED, ROOTS_PATCH): it loads no
documentation, no HTTP/2, and of the root certificates only the one that a connection needs. If an
upgrade moves one of these places, the build fails and says which.

Nothing is cut on trust. Before a zip is written, its content is run by itself, with nothing else
to import from: every client is made, every operation is called and answered, well and badly.
"""

from __future__ import annotations

import argparse
import ast
import gzip
import hashlib
import importlib.machinery
import importlib.util
import io
import json
import marshal
import os
import re
import ssl
import subprocess
import sys
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Where Lambda unpacks a function; tracebacks show these paths.
LAMBDA_ROOT = "/var/task"

# The oldest time that a zip can hold.
ZIP_TIME = (1980, 1, 1, 0, 0, 0)
ZIP_PERMISSIONS = 0o100644

SDK_PACKAGES = ("botocore", "dateutil", "jmespath", "six", "urllib3")

# Imported by what a zip needs, but only ever used where Lambda is not.
UNUSED_MODULES = (
    "dateutil.easter",  # Easter's date, by recurrence rules only
    "dateutil.rrule",  # recurrence rules: botocore reads times, it repeats none
    "dateutil.tz.win",  # Windows
    "dateutil.zoneinfo",  # time zones by name; botocore knows UTC and offsets
    "urllib3.contrib",  # SOCKS proxies, PyOpenSSL, browsers
)

# What botocore reads to make a client, whatever the service.
SHARED_DATA = ("_retry.json", "partitions.json", "sdk-default-configuration.json")
ENDPOINTS = "endpoints.json"
CERTIFICATES = "botocore/cacert.pem"

# The tags of DER, in which certificates are written.
DER_OID, DER_UTF8, DER_SEQUENCE, DER_SET, DER_VERSION = 0x06, 0x0C, 0x30, 0x31, 0xA0
# The kinds of text that a certificate's names can be, by their tags.
TEXT_ENCODINGS = {
    DER_UTF8: "utf-8",
    0x13: "ascii",
    0x14: "latin-1",
    0x16: "ascii",
    0x1A: "ascii",
    0x1C: "utf-32-be",
    0x1E: "utf-16-be",
}

# Modules of the SDK that a function imports and never uses, and what it gets in their place. They are
# a tenth of a cold start.
REPLACED = {
    # The help texts of clients, which drag in an HTML parser and all that can write documentation.
    "botocore/docs/__init__.py": "# Changed: build_zips.py has left out the documentation.\n",
    "botocore/docs/docstring.py": '''\
# Changed: build_zips.py has left out the documentation.
class NoDocstring(str):
    """Stands for a help text."""

    def __new__(cls, *args, **kwargs):
        return super().__new__(cls)


ClientMethodDocstring = PaginatorDocstring = WaiterDocstring = NoDocstring
''',
    # botocore speaks HTTP/1.1; asking whether h2 is installed loads importlib.metadata.
    "urllib3/http2/__init__.py": "# Changed: build_zips.py has left out the switch to HTTP/2.\n",
}

# For every new connection botocore reads all root certificates, more than a hundred: half of its
# work. OpenSSL can also take them from a folder in which each file's name is a hash of the root's
# name, and then reads the one that it needs. The same roots are trusted.
ROOTS_PATCH = (
    "botocore/httpsession.py",
    "            conn.ca_certs = get_cert_path(verify)\n",
    """\
            conn.ca_certs = get_cert_path(verify)
            if conn.ca_certs == DEFAULT_CA_BUNDLE:
                # Changed: build_zips.py has put the same roots into a folder, one in each file.
                conn.ca_certs = None
                conn.ca_cert_dir = DEFAULT_CA_BUNDLE.removesuffix('.pem')
""",
)

# Apache 2.0 and MIT ask that these go wherever the code goes.
LICENCE_FILE = re.compile(r"(LICEN[CS]E|NOTICE|COPYING)[^/]*", re.IGNORECASE)


class BuildError(Exception):
    """What is to be zipped does not fit together; the message says what and where to look."""


@dataclass(frozen=True)
class Function:
    """One Lambda function: its zip, the module that holds its handler, the services it calls."""

    zip_name: str
    module: str
    services: tuple[str, ...]


FUNCTIONS = (
    Function("valro-api-lambda.zip", "lambda_function", ("dynamodb", "lambda")),
    Function("valro-worker-lambda.zip", "worker_lambda", ("bedrock-agentcore", "dynamodb")),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs from the command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    commands = parser.add_subparsers(dest="command", required=True)
    build = commands.add_parser("build", help="build both zips")
    build.add_argument("--sources", type=Path, required=True, help="folder of the modules")
    build.add_argument("--sdk", type=Path, required=True, help="folder of the installed SDK")
    build.add_argument("--work", type=Path, required=True, help="an empty folder beside the output")
    build.add_argument("--output", type=Path, required=True, help="folder for the zips")
    check = commands.add_parser("check", help="run an unpacked zip by itself")
    check.add_argument("--folder", type=Path, required=True, help="the unpacked zip")
    check.add_argument("--sdk", type=Path, required=True, help="folder of the installed SDK")
    check.add_argument("--module", required=True, help="module of the handler")
    check.add_argument("services", nargs="+")
    options = parser.parse_args(arguments)
    try:
        if options.command == "build":
            build_all(options.sources, options.sdk, options.work, options.output)
        else:
            check_alone(options.folder, options.sdk, options.module, options.services)
    except BuildError as error:
        print(error, file=sys.stderr)
        return 1
    except SyntaxError as error:
        print(f"{error.filename}, line {error.lineno}: {error.msg}", file=sys.stderr)
        return 1
    return 0


def build_all(sources: Path, sdk: Path, work: Path, output: Path) -> None:
    """Builds both zips in a work folder, checks both, and only then puts them in place."""
    library = Library(sources, sdk)
    for function in FUNCTIONS:
        print(f"Building {function.zip_name} ...", file=sys.stderr, flush=True)
        content = function_content(function, library)
        folder = work / function.module
        unpack(content, folder)
        run_check(folder, sdk, function)
        (work / function.zip_name).write_bytes(zip_bytes(content))
    for function in FUNCTIONS:
        (work / function.zip_name).replace(output / function.zip_name)


def function_content(function: Function, library: Library) -> dict[str, bytes]:
    """Returns what goes into a function's zip: contents by name."""
    modules = library.imported_by(function.module)
    library.refuse_moved()
    content: dict[str, bytes] = {}
    for name in modules:
        path, source = library.file(name)
        content[path] = source
        content[byte_code_path(path)] = library.byte_code(name)
    own = [library.file(name) for name in modules if library.is_own(name)]
    called = called_names(source for _, source in own)
    for service in function.services:
        content |= library.service_data(service, called)
    content |= library.shared_data(function.services)
    content |= library.licences()
    return content


class Library:
    """Reads modules from the project and from the SDK, each only once."""

    def __init__(self, sources: Path, sdk: Path) -> None:
        """Takes the folder of the project's modules and that of the installed SDK."""
        self._sources = sources
        self._sdk = sdk
        self._files: dict[str, tuple[str, bytes] | None] = {}
        self._byte_code: dict[str, bytes] = {}
        self._imports: dict[str, list[str]] = {}

    def is_own(self, name: str) -> bool:
        """Tells whether a module is the project's own."""
        return name.partition(".")[0] not in SDK_PACKAGES

    def imported_by(self, name: str) -> list[str]:
        """Returns a module and all that it imports, directly or not, standard library excepted.

        Imports inside functions count. So nothing that could be reached is missing, apart from
        UNUSED_MODULES.
        """
        if self._find(name) is None:
            raise BuildError(f"There is no {name}.py in {self._sources}.")
        found: set[str] = set()
        waiting = [name]
        while waiting:
            module = waiting.pop()
            if module in found or is_unused(module) or self._find(module) is None:
                continue
            found.add(module)
            waiting += self._imported_directly(module)
        return sorted(found)

    def file(self, name: str) -> tuple[str, bytes]:
        """Returns a module's path in the zip and its source."""
        found = self._find(name)
        if found is None:
            raise BuildError(f"There is no module {name}.")
        return found

    def byte_code(self, name: str) -> bytes:
        """Returns a module's .pyc file, of the kind that is never compared with its source."""
        if name not in self._byte_code:
            path, source = self.file(name)
            code = compile(source, f"{LAMBDA_ROOT}/{path}", "exec", dont_inherit=True, optimize=0)
            unchecked_hash = (1).to_bytes(4, "little")
            self._byte_code[name] = (
                importlib.util.MAGIC_NUMBER
                + unchecked_hash
                + importlib.util.source_hash(source)
                + marshal.dumps(code)
            )
        return self._byte_code[name]

    def service_data(self, service: str, called: set[str]) -> dict[str, bytes]:
        """Returns a service's model, cut to the operations among the names that are called."""
        folder = self._sdk / "botocore/data" / service
        # botocore takes the latest version, whose name is a date.
        versions = sorted(path.name for path in folder.glob("*") if path.is_dir())
        if not versions:
            raise BuildError(f"botocore has no data of {service} under {folder}: has it moved?")
        latest = folder / versions[-1]
        model = read_json(latest / "service-2.json")
        operations = {name for name in model["operations"] if snake_case(name) in called}
        if not operations:
            raise BuildError(f"No module calls an operation of {service}, for which it is bundled.")
        target = f"botocore/data/{service}/{latest.name}"
        data = {
            f"{target}/service-2.json": write_json(cut_model(model, operations)),
            f"{target}/endpoint-rule-set-1.json": write_json(
                read_json(latest / "endpoint-rule-set-1.json")
            ),
        }
        extras = latest / "service-2.sdk-extras.json"
        if exists(extras):
            data[f"{target}/{extras.name}"] = write_json(read_json(extras))
        return data

    def shared_data(self, services: Iterable[str]) -> dict[str, bytes]:
        """Returns what botocore needs for any client, its endpoints cut to some services."""
        data = self._sdk / "botocore/data"
        shared = {
            f"botocore/data/{name}": write_json(read_json(data / name)) for name in SHARED_DATA
        }
        endpoints = read_json(data / ENDPOINTS)
        for partition in endpoints["partitions"]:
            known = partition["services"]
            partition["services"] = {name: known[name] for name in services if name in known}
        shared[f"botocore/data/{ENDPOINTS}"] = write_json(endpoints)
        certificates = self._sdk / CERTIFICATES
        if not certificates.is_file():
            raise BuildError(f"botocore has no {certificates}, which TLS needs: has it moved?")
        shared[CERTIFICATES] = certificates.read_bytes()
        folder = CERTIFICATES.removesuffix(".pem")
        roots = roots_by_hash(certificates.read_text(encoding="utf-8"))
        return shared | {f"{folder}/{name}": root for name, root in roots.items()}

    def refuse_moved(self) -> None:
        """Stops the build if the SDK no longer has what REPLACED and ROOTS_PATCH change."""
        for path in (*REPLACED, ROOTS_PATCH[0]):
            if not (self._sdk / path).is_file():
                raise BuildError(
                    f"The SDK has no {path}, which build_zips.py changes: see what moved."
                )

    def licences(self) -> dict[str, bytes]:
        """Returns the licence files of what is bundled."""
        found = {
            path.relative_to(self._sdk).as_posix(): path.read_bytes()
            for path in self._sdk.glob("*.dist-info/**/*")
            if path.is_file() and LICENCE_FILE.fullmatch(path.name)
        }
        licensed = {re.split(r"[-/]", name)[0].removeprefix("python_") for name in found}
        if missing := set(SDK_PACKAGES) - licensed:
            raise BuildError(f"No licence was found for {', '.join(sorted(missing))}.")
        return found

    def _find(self, name: str) -> tuple[str, bytes] | None:
        if name not in self._files:
            self._files[name] = self._read(name)
        return self._files[name]

    def _read(self, name: str) -> tuple[str, bytes] | None:
        path = name.replace(".", "/")
        if self.is_own(name):
            # Flat modules: a folder of the project is never part of a function.
            candidates = [f"{name}.py"] if name.isidentifier() else []
            root = self._sources
        else:
            candidates = [f"{path}/__init__.py", f"{path}.py"]
            root = self._sdk
        for candidate in candidates:
            if (root / candidate).is_file():
                return candidate, changed(candidate, (root / candidate).read_bytes())
        return None

    def _imported_directly(self, name: str) -> list[str]:
        if name not in self._imports:
            path, source = self.file(name)
            package = name if path.endswith("/__init__.py") else name.rpartition(".")[0]
            self._imports[name] = sorted(set(imported_names(path, source, package)))
            if self.is_own(name):
                self._refuse_unknown(name, self._imports[name])
        return self._imports[name]

    def _refuse_unknown(self, name: str, imported: Iterable[str]) -> None:
        for other in imported:
            top = other.partition(".")[0]
            if top not in sys.stdlib_module_names and self._find(top) is None:
                raise BuildError(
                    f"{name}.py imports {top}, which is neither a module of this project, nor"
                    " Python's own, nor in requirements.txt."
                )


def changed(path: str, source: bytes) -> bytes:
    """Returns a source as the zip gets it: as it is, but for REPLACED and ROOTS_PATCH."""
    if path in REPLACED:
        return REPLACED[path].encode()
    patched, old, new = ROOTS_PATCH
    if path != patched:
        return source
    if source.count(old.encode()) != 1:
        raise BuildError(
            f"{path} no longer has the line {old.strip()!r}: see how botocore now chooses the root"
            " certificates, and correct ROOTS_PATCH in build_zips.py."
        )
    return source.replace(old.encode(), new.encode())


def roots_by_hash(bundle: str) -> dict[str, bytes]:
    """Returns the certificates of a PEM file by the names that OpenSSL looks for in a folder."""
    roots: dict[str, bytes] = {}
    pattern = "-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----"
    for pem in re.findall(pattern, bundle, re.DOTALL):
        name = subject_hash(ssl.PEM_cert_to_DER_cert(pem))
        number = sum(other.startswith(f"{name}.") for other in roots)
        roots[f"{name}.{number}"] = f"{pem}\n".encode()
    return roots


def subject_hash(certificate: bytes) -> str:
    """Returns what ``openssl x509 -subject_hash`` prints for a DER certificate.

    It is the SHA-1 of the subject with every text as UTF-8, in lower case, its spaces collapsed
    (X509_NAME_hash_ex and x509_name_canon in OpenSSL, the same since 1.0.0).
    """
    ((_, whole),) = der_parts(certificate)
    to_be_signed = next(der_parts(whole))[1]
    # The version (absent from the first), serial, algorithm, issuer, validity, subject.
    fields = [content for tag, content in der_parts(to_be_signed) if tag != DER_VERSION]
    canonical = b""
    for _, relative_name in der_parts(fields[4]):
        attributes = []
        for _, attribute in der_parts(relative_name):
            (_, kind), (tag, value) = der_parts(attribute)
            if tag in TEXT_ENCODINGS:
                text = value.decode(TEXT_ENCODINGS[tag]).encode()
                # bytes.lower() and bytes.split() know ASCII only, as OpenSSL does here.
                tag, value = DER_UTF8, b" ".join(text.split()).lower()
            attributes.append(der(DER_SEQUENCE, der(DER_OID, kind) + der(tag, value)))
        canonical += der(DER_SET, b"".join(sorted(attributes)))
    digest = hashlib.sha1(canonical, usedforsecurity=False).digest()
    return f"{int.from_bytes(digest[:4], 'little'):08x}"


def der_parts(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yields the tags and contents that stand one after another in DER."""
    at = 0
    while at < len(data):
        tag, length, at = data[at], data[at + 1], at + 2
        if length & 0x80:
            size = length & 0x7F
            length, at = int.from_bytes(data[at : at + size], "big"), at + size
        yield tag, data[at : at + length]
        at += length


def der(tag: int, content: bytes) -> bytes:
    """Returns a tag and its content in DER."""
    length = len(content)
    if length < 0x80:
        return bytes([tag, length]) + content
    size = (length.bit_length() + 7) // 8
    return bytes([tag, 0x80 | size]) + length.to_bytes(size, "big") + content


def imported_names(path: str, source: bytes, package: str) -> Iterator[str]:
    """Yields every module that a source may import, and the packages that hold them."""
    for node in ast.walk(ast.parse(source, path)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from with_parents(alias.name)
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            if node.level:
                module = importlib.util.resolve_name("." * node.level + module, package)
            yield from with_parents(module)
            # What is imported from a package may be a module of it.
            for alias in node.names:
                yield f"{module}.{alias.name}"


def with_parents(name: str) -> Iterator[str]:
    """Yields a.b.c, a.b and a for a.b.c: importing a module runs its packages."""
    while name:
        yield name
        name = name.rpartition(".")[0]


def is_unused(name: str) -> bool:
    """Tells whether a module is one of UNUSED_MODULES or inside one."""
    return any(parent in UNUSED_MODULES for parent in with_parents(name))


def byte_code_path(path: str) -> str:
    """Returns where Python looks for the byte code of a source."""
    return importlib.util.cache_from_source(path, optimization="")


def called_names(sources: Iterable[bytes]) -> set[str]:
    """Returns all attributes and all string constants: any of them may name an operation."""
    names: set[str] = set()
    for source in sources:
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Attribute):
                names.add(node.attr)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                names.add(node.value)
    return names


def snake_case(operation: str) -> str:
    """Returns the name of the client's method: invoke_agent_runtime for InvokeAgentRuntime."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=.)(?=[A-Z][a-z])", "_", operation).lower()


def cut_model(model: dict[str, Any], operations: set[str]) -> dict[str, Any]:
    """Returns a service model of only some operations and what they need, undocumented.

    Exceptions all stay: an answer or a handler may name any of them.
    """
    shapes = model["shapes"]
    needed: set[str] = set()
    waiting = [name for name, shape in shapes.items() if shape.get("exception")]
    for name in operations:
        waiting += shapes_named_in(model["operations"][name])
    while waiting:
        shape = waiting.pop()
        if shape not in needed:
            needed.add(shape)
            waiting += shapes_named_in(shapes[shape])
    cut = {key: value for key, value in model.items() if key != "documentation"}
    cut["operations"] = {
        name: undocumented(value)
        for name, value in model["operations"].items()
        if name in operations
    }
    cut["shapes"] = {name: undocumented(value) for name, value in shapes.items() if name in needed}
    return cut


def shapes_named_in(part: dict[str, Any]) -> Iterator[str]:
    """Yields the shapes that an operation or a shape refers to."""
    references: list[dict[str, Any]] = list(part.get("errors", ()))
    references += [
        part[key] for key in ("input", "output", "member", "key", "value") if key in part
    ]
    references += part.get("members", {}).values()
    for reference in references:
        yield reference["shape"]


def undocumented(part: dict[str, Any]) -> dict[str, Any]:
    """Returns an operation or a shape without its documentation; members keep their names."""
    cut = {key: value for key, value in part.items() if key != "documentation"}
    for key in ("input", "output", "member", "key", "value"):
        if key in cut:
            cut[key] = undocumented(cut[key])
    if "members" in cut:
        cut["members"] = {name: undocumented(value) for name, value in cut["members"].items()}
    return cut


def exists(path: Path) -> bool:
    """Tells whether a JSON file of botocore is there, as it is or compressed."""
    return path.is_file() or path.with_name(path.name + ".gz").is_file()


def read_json(path: Path) -> Any:
    """Reads a JSON file of botocore, as it is or compressed."""
    packed = path.with_name(path.name + ".gz")
    if packed.is_file():
        return json.loads(gzip.decompress(packed.read_bytes()))
    if path.is_file():
        return json.loads(path.read_bytes())
    raise BuildError(f"botocore has no {path}, which a client needs: has it moved?")


def write_json(value: Any) -> bytes:
    """Returns JSON without a space to spare, in the order in which it was read."""
    return json.dumps(value, separators=(",", ":")).encode()


def zip_bytes(content: dict[str, bytes]) -> bytes:
    """Returns a zip that depends on nothing but its content and this Python's version."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        archive.comment = runtime().encode()
        for name in sorted(content):
            entry = zipfile.ZipInfo(name, ZIP_TIME)
            entry.create_system = 3  # Unix, whatever builds
            entry.external_attr = ZIP_PERMISSIONS << 16
            archive.writestr(entry, content[name], zipfile.ZIP_DEFLATED, 9)
    return buffer.getvalue()


def runtime() -> str:
    """Returns the Lambda runtime that takes this Python's byte code."""
    return f"python{sys.version_info.major}.{sys.version_info.minor}"


def unpack(content: dict[str, bytes], folder: Path) -> None:
    """Writes what a zip will hold as Lambda will unpack it."""
    for name, data in content.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def run_check(folder: Path, sdk: Path, function: Function) -> None:
    """Runs check_alone in a Python that has nothing else to import from."""
    command = [sys.executable, "-I", "-S", "-B", __file__, "check"]
    command += ["--folder", str(folder), "--sdk", str(sdk), "--module", function.module]
    # Nothing of the user's AWS settings: a profile must not decide whether a zip is good.
    environment = {"AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull}
    result = subprocess.run(
        [*command, *function.services],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode != 0:
        raise BuildError(
            f"{function.zip_name} would not run by itself:\n{result.stderr.strip()}\n"
            "If botocore was upgraded, see what moved, and correct build_zips.py."
        )


def check_alone(folder: Path, sdk: Path, module: str, services: Iterable[str]) -> None:
    """Imports a handler and calls every operation that is in its zip, without a network.

    Whatever a good and a bad answer make botocore import or read is thereby proven to be there.
    """
    sys.path[:0] = [str(folder)]
    missing = MissingModules(sdk)
    sys.meta_path.append(missing)
    refuse_to_compile(folder)
    try:
        handler = importlib.import_module(module)
        for service in services:
            call_everything(service)
    except ModuleNotFoundError as error:
        raise BuildError(f"{error.name} is imported, but not in the zip.") from error
    if not callable(getattr(handler, "lambda_handler", None)):
        raise BuildError(f"{module}.py has no function lambda_handler.")
    if missing.names:
        raise BuildError(f"Imported but not in the zip: {', '.join(sorted(missing.names))}.")


class MissingModules:
    """The last finder that Python asks: notes what the zip lacks and the SDK has."""

    def __init__(self, sdk: Path) -> None:
        """Takes the folder of the installed SDK."""
        self.names: set[str] = set()
        self._sdk = sdk

    def find_spec(self, name: str, *_where: object) -> None:
        """Finds nothing; a module that the SDK has is noted as missing."""
        file = self._sdk / name.replace(".", "/")
        if is_unused(name):
            return
        if file.with_suffix(".py").is_file() or (file / "__init__.py").is_file():
            self.names.add(name)


def refuse_to_compile(folder: Path) -> None:
    """Makes Python fail where it would compile a source in a folder; elsewhere it may."""
    compiler = importlib.machinery.SourceFileLoader.source_to_code

    def refuse(loader: Any, data: Any, path: Any, **options: Any) -> Any:
        if Path(path).is_relative_to(folder):
            raise BuildError(f"{path} has no byte code that this Python takes.")
        return compiler(loader, data, path, **options)

    importlib.machinery.SourceFileLoader.source_to_code = refuse  # type: ignore[assignment, method-assign]


def call_everything(service: str) -> None:
    """Makes a client and calls each of its operations twice, answered with 200 and with 400."""
    import botocore.session  # noqa: PLC0415 - from the zip under check
    from botocore.exceptions import ClientError  # noqa: PLC0415 - likewise

    client = botocore.session.get_session().create_client(
        service,
        region_name="us-east-1",
        aws_access_key_id="check",
        aws_secret_access_key="check",  # noqa: S106 - nothing is sent
    )
    network = NoNetwork()
    client.meta.events.register("before-send", network)
    model = client.meta.service_model
    for operation in model.operation_names:
        call = getattr(client, snake_case(operation))
        arguments = example(model.operation_model(operation).input_shape)
        network.status = 200
        call(**arguments)
        network.status = 400
        try:
            call(**arguments)
        except ClientError as error:
            if error.response["Error"]["Code"] == NoNetwork.ERROR:
                continue
        raise BuildError(f"botocore does not read an error of {service} {operation} right.")


class NoNetwork:
    """Answers every request of a client in the place of AWS."""

    ERROR = "CheckException"

    def __init__(self) -> None:
        """Answers well until told otherwise."""
        self.status = 200

    def __call__(self, request: Any, **_details: object) -> Any:
        """Returns an empty answer, or an error."""
        from botocore.awsrequest import AWSResponse  # noqa: PLC0415 - from the zip under check

        body = {} if self.status == 200 else {"__type": self.ERROR, "message": "refused"}
        headers = {"x-amzn-ErrorType": self.ERROR} if body else {}
        return AWSResponse(request.url, self.status, headers, Body(write_json(body)))


class Body(io.BytesIO):
    """An answer's body as urllib3 hands it to botocore."""

    def stream(self) -> Iterator[bytes]:
        """Yields what there is."""
        yield self.read()


def example(shape: Any) -> Any:
    """Returns the least value that botocore accepts for a shape."""
    kind = shape.type_name
    if kind == "structure":
        names = shape.required_members
        if shape.is_tagged_union:
            names = list(shape.members)[:1]
        return {name: example(shape.members[name]) for name in names}
    if kind == "list":
        return [example(shape.member)]
    if kind == "map":
        return {"key": example(shape.value)}
    if kind == "string":
        return shape.enum[0] if shape.enum else "x" * shape.metadata.get("min", 1)
    if kind == "blob":
        return b"x"
    if kind == "boolean":
        return True
    if kind in ("integer", "long", "float", "double"):
        return shape.metadata.get("min", 1)
    raise BuildError(f"No example of a {kind} ({shape.name}) is known.")


if __name__ == "__main__":
    sys.exit(main())
