"""Runs an unpacked zip by itself: ``python -ISB check.py FOLDER SDK HANDLER,... SERVICE...``.

A program of its own, since it must have nothing else to import from. It imports the handlers, makes
a client of each service, and calls every operation that is in the zip, without a network, answered
well and badly. Whatever that makes botocore import or read is thereby proven to be there.
"""

import importlib
import io
import json
import sys
from pathlib import Path
from typing import Any


def main(folder: Path, sdk: Path, handlers: str, *services: str) -> None:
    """Ends the program with a sentence if something is missing."""
    sys.path.insert(0, str(folder))
    missing = MissingModules(sdk)
    sys.meta_path.append(missing)
    try:
        imported = [importlib.import_module(name) for name in handlers.split(",")]
        for name in own_modules(folder, sdk):  # those too that are imported only when needed
            importlib.import_module(name)
        for service in services:
            call_everything(service)
    except ModuleNotFoundError as error:
        sys.exit(f"{error.name} is imported, but not in the zip.")
    for handler in imported:
        if not callable(getattr(handler, "lambda_handler", None)):
            sys.exit(f"{handler.__name__}.py has no function lambda_handler.")
    if missing.names:
        sys.exit(f"Imported but not in the zip: {', '.join(sorted(missing.names))}.")


def own_modules(folder: Path, sdk: Path) -> list[str]:
    """The project's modules in a zip: those that the SDK does not have."""
    files = (file.relative_to(folder) for file in sorted(folder.rglob("*.py")))
    own = (file for file in files if not (sdk / file).exists() and file.stem != "__init__")
    return [".".join(file.with_suffix("").parts) for file in own]


class MissingModules:
    """The last finder that Python asks: notes what the zip lacks and the SDK has.

    An SDK that quietly does without a module could quietly do without its security.
    """

    def __init__(self, sdk: Path) -> None:
        self.names: set[str] = set()
        self._sdk = sdk

    def find_spec(self, name: str, *_where: object) -> None:
        """Finds nothing; a module that the SDK has is noted as missing."""
        file = self._sdk / name.replace(".", "/")
        if file.with_suffix(".py").is_file() or (file / "__init__.py").is_file():
            self.names.add(name)


def call_everything(service: str) -> None:
    """Makes a client and calls each of its operations twice, answered with 200 and with 400."""
    import botocore.session  # noqa: PLC0415 - from the zip under check

    client = botocore.session.get_session().create_client(
        service,
        region_name="us-east-1",
        aws_access_key_id="check",
        aws_secret_access_key="check",  # noqa: S106 - nothing is sent
    )
    status = 200
    client.meta.events.register("before-send", lambda request, **_: answer(request.url, status))
    model = client.meta.service_model
    for operation in model.operation_names:
        call = getattr(client, botocore.xform_name(operation))
        arguments = example(model.operation_model(operation).input_shape)
        status = 200
        call(**arguments)
        status = 400
        try:
            call(**arguments)
        except client.exceptions.ClientError as error:
            if error.response["Error"]["Code"] == "CheckException":
                continue
        sys.exit(f"botocore does not read an error of {service} {operation} right.")


def answer(url: str, status: int) -> Any:
    """Returns AWS's answer to a request: an empty one, or an error."""
    from botocore.awsrequest import AWSResponse  # noqa: PLC0415 - from the zip under check
    from urllib3 import HTTPResponse  # noqa: PLC0415 - likewise

    body = {} if status == 200 else {"__type": "CheckException", "message": "refused"}
    headers = {"x-amzn-ErrorType": "CheckException"} if body else {}
    raw = HTTPResponse(io.BytesIO(json.dumps(body).encode()), preload_content=False)
    return AWSResponse(url, status, headers, raw)


def example(shape: Any) -> Any:
    """Returns the least value that botocore accepts for a shape."""
    match shape.type_name:
        case "structure":
            names = list(shape.members)[:1] if shape.is_tagged_union else shape.required_members
            return {name: example(shape.members[name]) for name in names}
        case "list":
            return [example(shape.member)]
        case "map":
            return {"key": example(shape.value)}
        case "string":
            return shape.enum[0] if shape.enum else "x" * shape.metadata.get("min", 1)
        case "blob":
            return b"x"
        case "boolean":
            return True
        case _:
            return shape.metadata.get("min", 1)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:])
