"""Which of botocore's data goes into a zip: what its clients read, cut to what is called."""

import gzip
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from bundle import BundleError

# What botocore reads to make a client, whatever the service.
SHARED = ("_retry.json", "partitions.json", "sdk-default-configuration.json")
ENDPOINTS = "endpoints.json"


def client_data(data: Path, services: Iterable[str], sources: str) -> dict[str, bytes]:
    """Returns what the clients of some services read, by paths inside a zip.

    A service's model is cut to the operations whose methods the sources name.
    """
    content = {name: read_json(data / name) for name in SHARED}
    content[ENDPOINTS] = read_json(data / ENDPOINTS)
    for partition in content[ENDPOINTS]["partitions"]:
        known = partition["services"]
        partition["services"] = {name: known[name] for name in services if name in known}
    for service in services:
        content |= service_data(data, service, sources)
    return {
        f"botocore/data/{name}": json.dumps(value, separators=(",", ":")).encode()
        for name, value in content.items()
    }


def service_data(data: Path, service: str, sources: str) -> dict[str, Any]:
    """Returns a service's files, by their paths."""
    # botocore takes the latest version, whose name is a date.
    versions = sorted(path for path in (data / service).glob("*") if path.is_dir())
    if not versions:
        raise BundleError(f"botocore has no data in {data / service}: has it moved?")
    latest = versions[-1]
    model = read_json(latest / "service-2.json")
    # get_item is GetItem's method.
    methods = {name.replace("_", "") for name in re.findall(r"\b[a-z0-9_]+\b", sources)}
    operations = {name for name in model["operations"] if name.lower() in methods}
    if not operations:
        raise BundleError(f"No module calls an operation of {service}, for which it is bundled.")
    files = {
        "service-2.json": cut_model(model, operations),
        "endpoint-rule-set-1.json": read_json(latest / "endpoint-rule-set-1.json"),
    }
    # What the SDKs add to the service's own words; not every service has it.
    extras = "service-2.sdk-extras.json"
    if any(latest.glob(f"{extras}*")):
        files[extras] = read_json(latest / extras)
    return {f"{service}/{latest.name}/{name}": file for name, file in files.items()}


def cut_model(model: dict[str, Any], operations: set[str]) -> dict[str, Any]:
    """Returns a service model of only some operations and the shapes that they need.

    Exceptions all stay: an answer or a handler may name any of them.
    """
    shapes = model["shapes"]
    kept = {name: value for name, value in model["operations"].items() if name in operations}
    waiting = [name for name, shape in shapes.items() if shape.get("exception")]
    waiting += shapes_named_in(kept)
    needed: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name not in needed:
            needed.add(name)
            waiting += shapes_named_in(shapes[name])
    return model | {
        "operations": kept,
        "shapes": {name: shape for name, shape in shapes.items() if name in needed},
    }


def shapes_named_in(part: Any) -> Iterator[str]:
    """Yields the shapes that operations or a shape refer to, wherever they do."""
    if isinstance(part, dict):
        # A member that is itself called "shape" is a dict.
        if isinstance(part.get("shape"), str):
            yield part["shape"]
        part = list(part.values())
    if isinstance(part, list):
        for each in part:
            yield from shapes_named_in(each)


def read_json(path: Path) -> Any:
    """Reads a JSON file of botocore, as it is or compressed, without its documentation."""
    packed = path.with_name(path.name + ".gz")
    if packed.is_file():
        return json.loads(gzip.decompress(packed.read_bytes()), object_hook=undocumented)
    if path.is_file():
        return json.loads(path.read_bytes(), object_hook=undocumented)
    raise BundleError(f"botocore has no {path}, which a client needs: has it moved?")


def undocumented(part: dict[str, Any]) -> dict[str, Any]:
    """Returns a part of a model without its documentation; a member of that name is no text."""
    return {
        name: value
        for name, value in part.items()
        if name != "documentation" or not isinstance(value, str)
    }
