"""What create-infrastructure.sh does with JSON, where bash and the CLI's --query do not reach.

It compares documents, writes them and asks the deployed API for an answer. It never calls AWS, and
needs nothing but the standard library. Each command of the script is one function here.
"""

import base64
import hashlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

TRANSACTION_SIZE = 100
REQUEST_TIMEOUT_SECONDS = 35


def main(command: str, *arguments: str) -> None:
    """Run one command and print its lines."""
    commands: dict[str, Callable[..., Iterator[str]]] = {
        "ask": ask,
        "drift": drift,
        "fields": fields,
        "names": names,
        "owners": owners,
        "pick": pick,
        "statement": statement,
        "zip_facts": zip_facts,
    }
    for line in commands[command](*arguments):
        print(line)


def drift(wanted: str, current: str, path: str = "") -> Iterator[str]:
    """Yield one line that names what differs from the wanted document, empty if nothing does."""
    found = differences(load(wanted), load(current, path) or {})
    yield ", ".join(dict.fromkeys(found))


def fields(file: str, *paths: str) -> Iterator[str]:
    """Yield the value at each path, documents as JSON, an empty line where there is none."""
    for path in paths:
        value = load(file, path)
        if isinstance(value, dict | list):
            value = json.dumps(value)
        yield "" if value is None else str(value)


def names(file: str, key: str) -> Iterator[str]:
    """Yield what each member of a list has under this key."""
    for each in load(file):
        yield each[key]


def pick(file: str, key: str, value: str) -> Iterator[str]:
    """Yield the first member of a list that has this value under this key, or null."""
    yield json.dumps(next((each for each in load(file) if each.get(key) == value), None))


def statement(file: str, sid: str) -> Iterator[str]:
    """Yield the statement with this Sid of a function's policy, which is JSON in JSON, or null."""
    statements = json.loads(load(file, "Policy"))["Statement"]
    yield json.dumps(next((each for each in statements if each.get("Sid") == sid), None))


def zip_facts(file: str) -> Iterator[str]:
    """Yield the CodeSha256 that Lambda gives this zip, and the runtime in its comment."""
    import zipfile  # noqa: PLC0415 - slow to import, and only this command needs it

    yield base64.b64encode(hashlib.sha256(Path(file).read_bytes()).digest()).decode()
    with zipfile.ZipFile(file) as archive:
        yield archive.comment.decode()


def owners(ids: str, table: str, folder: str) -> Iterator[str]:
    """Write transactions that make `public` the owner of these tasks, and yield their number.

    `public` is whom tasks without a token belong to. A task that was deleted, or has got an owner
    in the meantime, is not written: its condition fails, and with it the transaction.
    """
    tasks = load(ids)
    for start in range(0, len(tasks), TRANSACTION_SIZE):
        updates = [
            {
                "Update": {
                    "TableName": table,
                    "Key": {"id": {"S": task}},
                    "UpdateExpression": "SET #owner = :public",
                    "ConditionExpression": "attribute_exists(id) AND attribute_not_exists(#owner)",
                    "ExpressionAttributeNames": {"#owner": "owner"},
                    "ExpressionAttributeValues": {":public": {"S": "public"}},
                }
            }
            for task in tasks[start : start + TRANSACTION_SIZE]
        ]
        document = Path(folder, f"owners-{start}.json")
        document.write_text(json.dumps({"TransactItems": updates}), encoding="utf-8")
    yield str(len(tasks))


def ask(url: str) -> Iterator[str]:
    """Yield the status of a GET and the beginning of its body, or 0 and why there is no answer."""
    from http import client  # noqa: PLC0415 - slow to import, and only this command needs it
    from urllib.parse import urlsplit  # noqa: PLC0415 - likewise

    parts = urlsplit(url)
    kind = client.HTTPSConnection if parts.scheme == "https" else client.HTTPConnection
    host = parts.hostname or ""
    # Names under localhost are this machine (RFC 6761), but not every resolver knows that.
    connection = kind(
        "127.0.0.1" if host.endswith(".localhost") else host,
        parts.port,
        timeout=REQUEST_TIMEOUT_SECONDS,
    )
    try:
        connection.request("GET", f"{parts.path}?{parts.query}", headers={"Host": parts.netloc})
        answer = connection.getresponse()
        body = answer.read().decode(errors="replace")
    except (OSError, client.HTTPException) as error:
        yield "0"
        yield str(error)
    else:
        yield str(answer.status)
        yield " ".join(body.split())[:300]


def load(file: str, path: str = "") -> Any:
    """Return the part of a JSON file that a path such as Items.0.Name leads to, or None."""
    value = json.loads(Path(file).read_text(encoding="utf-8"))
    for key in path.split(".") if path else []:
        if isinstance(value, list):
            value = value[int(key)] if int(key) < len(value) else None
        else:
            value = value.get(key) if value else None
    return value


def differences(wanted: Any, current: Any, name: str = "", *, exact: bool = False) -> Iterator[str]:
    """Yield what a person should know about each difference.

    AWS adds fields of its own, so only those that are wanted count, except in policies and
    environments, where one more is a difference too. The order of a list of words means nothing.
    """
    if isinstance(wanted, dict) and isinstance(current, dict):
        exact = exact or name == "Variables" or "Statement" in wanted
        for key, value in wanted.items():
            yield from differences(value, current.get(key), key, exact=exact)
        if exact:
            yield from (f"{key} removed" for key in current if key not in wanted)
    elif isinstance(wanted, list) and isinstance(current, list):
        yield from list_differences(wanted, current, name, exact=exact)
    elif wanted != current:
        yield describe(wanted, current, name)


def list_differences(
    wanted: list[Any], current: list[Any], name: str, *, exact: bool
) -> Iterator[str]:
    """Yield the differences of two lists: of documents one by one, of words as sets."""
    documents = all(isinstance(each, dict) for each in wanted + current)
    if documents and len(wanted) == len(current):
        for each, other in zip(wanted, current, strict=True):
            yield from differences(each, other, name, exact=exact)
    elif sorted(map(json.dumps, wanted)) != sorted(map(json.dumps, current)):
        yield name


def describe(wanted: Any, current: Any, name: str) -> str:
    """Return the words for one difference, with both values where they fit on a line."""
    if current is None:
        return f"{name} added"
    if isinstance(wanted, dict | list) or isinstance(current, dict | list):
        return name
    return f"{name} {current} -> {wanted}"


if __name__ == "__main__":
    main(*sys.argv[1:])
