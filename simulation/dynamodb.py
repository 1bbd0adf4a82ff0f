"""A DynamoDB in memory: the operations and expressions that dynamodb_helpers uses, and no others.

In a test, moto and MiniStack answer each call of some schedules as this does. What those two do not
have is here as well: an index that lags, reads that are not consistent, and a transaction that is
sent twice with one token and done once.
"""

import functools
import re
from collections.abc import Callable
from typing import Any

from botocore.exceptions import ClientError

Item = dict[str, Any]
Seconds = Callable[[], float]

KEPT_VERSIONS = 3
REFUSED = "The conditional request failed"
# How an attribute, if there is one, compares with a value.
COMPARISONS: dict[str, Callable[[Item | None, Item], bool]] = {
    "attribute_exists": lambda held, _wanted: held is not None,
    "attribute_not_exists": lambda held, _wanted: held is None,
    "=": lambda held, wanted: held == wanted,
    ">": lambda held, wanted: held is not None and "S" in held and held["S"] > wanted["S"],
}


class DynamoDB:
    """One table with its index.

    ``on_write`` is told of every write, with the item before and after it. An item is in the index
    ``index_lag()`` seconds after it was put, and a read that is not consistent is ``read_lag()``
    seconds old. Items are never changed in place, so what is handed out needs no copy.
    """

    def __init__(self, *, clock: Seconds, index_lag: Seconds, read_lag: Seconds) -> None:
        self.clock = clock
        self.on_write: Callable[[Item | None, Item], None] = lambda _old, _new: None
        self.index_lag = index_lag
        self.read_lag = read_lag
        self.items: dict[str, Item] = {}
        self.has_index = True
        self.largest_write: int | None = None  # in bytes of text; over it a write is refused
        self._indexed_at: dict[str, float] = {}
        self._versions: dict[str, list[tuple[float, Item]]] = {}
        self._tokens: set[str] = set()

    def put_item(self, **request: Any) -> Item:
        """Puts an item, on a condition if there is one."""
        return self._write("PutItem", "Put", request)

    def update_item(self, **request: Any) -> Item:
        """Updates an item, on a condition."""
        return self._write("UpdateItem", "Update", request)

    def transact_write_items(self, **request: Any) -> Item:
        """Does conditional updates and puts, and deletes, all of them or none."""
        token = request.get("ClientRequestToken")
        if token in self._tokens:
            return {}
        writes = [write for item in request["TransactItems"] for write in item.items()]
        self._must_fit("TransactWriteItems", *(write for _kind, write in writes))
        outcomes = [self._outcome(*write) for write in writes]
        if any(new is None for _old, new in outcomes):
            refused = {"Code": "ConditionalCheckFailed", "Message": REFUSED}
            reasons = [
                refused | _old_as_asked(write, old) if new is None else {"Code": "None"}
                for (_kind, write), (old, new) in zip(writes, outcomes, strict=True)
            ]
            raise client_error(
                "TransactionCanceledException",
                400,
                "TransactWriteItems",
                CancellationReasons=reasons,
            )
        for (kind, write), (_old, new) in zip(writes, outcomes, strict=True):
            if new and kind != "Delete":
                self._store(new)
            else:
                self.items.pop(write["Key"]["id"]["S"], None)
        if token:
            self._tokens.add(token)
        return {}

    def delete_item(self, *, Key: Item, **_asked: Any) -> Item:  # noqa: N803
        """Removes an item, as a person at the console does."""
        del self.items[Key["id"]["S"]]
        return {}

    def get_item(self, **request: Any) -> Item:
        """Reads one item."""
        item = self._read(request["Key"], request)
        return {"Item": item} if item else {}

    def batch_get_item(self, **request: Any) -> Item:
        """Reads items by their keys."""
        ((table, asked),) = request["RequestItems"].items()
        found = (self._read(key, asked) for key in asked["Keys"])
        items = [_projected(item, asked) for item in found if item]
        return {"Responses": {table: items}, "UnprocessedKeys": {}}

    def query(self, **request: Any) -> Item:
        """Reads a page of an owner's keys from the index, newest first."""
        if not self.has_index:
            message = f"The table does not have the specified index: {request['IndexName']}"
            raise client_error("ValidationException", 400, "Query", message)
        owner, now = request["ExpressionAttributeValues"][":owner"], self.clock()
        keys = [
            {name: item[name] for name in ("id", "owner", "created_at")}
            for item_id, item in self.items.items()
            if item.get("owner") == owner and self._indexed_at[item_id] <= now
        ]
        keys.sort(key=_index_order, reverse=True)
        if "ExclusiveStartKey" in request:
            start = _index_order(request["ExclusiveStartKey"])
            keys = [key for key in keys if _index_order(key) < start]
        return {"Items": keys[: request["Limit"]]}

    def scan(self, **request: Any) -> Item:
        """Reads the whole table in one page."""
        condition = request["FilterExpression"]
        items = (item for item in self.items.values() if _holds(condition, item, request))
        return {"Items": [_projected(item, request) for item in items]}

    def _write(self, operation: str, kind: str, request: Item) -> Item:
        self._must_fit(operation, request)
        old, new = self._outcome(kind, request)
        if new is None:
            held = _old_as_asked(request, old)
            raise client_error("ConditionalCheckFailedException", 400, operation, **held)
        self._store(new)
        return {"Attributes": new} if request.get("ReturnValues") == "ALL_NEW" else {}

    def _outcome(self, kind: str, request: Item) -> tuple[Item | None, Item | None]:
        """The item before a write and after it; None after it if its condition fails."""
        given: Item = request["Item"] if kind == "Put" else request["Key"]
        old = self.items.get(given["id"]["S"])
        if not _holds(request.get("ConditionExpression", ""), old, request):
            return old, None
        if kind != "Update":
            return old, given
        names, values = request["ExpressionAttributeNames"], request["ExpressionAttributeValues"]
        new = dict(old or given)
        sets, removed = _update(request["UpdateExpression"])
        for name, operation, default, value in sets:
            target, added = names[name], values[value]
            held = (old or {}).get(target, values.get(default))
            if operation == "append":
                added = {"L": held["L"] + added["L"]}
            elif operation == "add":
                added = {"N": str(int(held["N"]) + int(added["N"]))}
            new[target] = added
        for name in removed:
            new.pop(names[name], None)
        return old, new

    def _must_fit(self, operation: str, *writes: Item) -> None:
        if self.largest_write is None:
            return
        parts = (one.get("Item") or one.get("ExpressionAttributeValues", {}) for one in writes)
        texts = (value["S"] for part in parts for value in part.values() if "S" in value)
        if sum(len(text.encode()) for text in texts) > self.largest_write:
            message = "Item size to update has exceeded the maximum allowed size"
            raise client_error("ValidationException", 400, operation, message)

    def _store(self, item: Item) -> None:
        item_id, now = item["id"]["S"], self.clock()
        old = self.items.get(item_id)
        self.items[item_id] = item
        if old is None:
            self._indexed_at[item_id] = now + self.index_lag()
        versions = self._versions.setdefault(item_id, [])
        versions.append((now, item))
        del versions[:-KEPT_VERSIONS]
        self.on_write(old, item)

    def _read(self, key: Item, request: Item) -> Item | None:
        item_id = key["id"]["S"]
        item = self.items.get(item_id)
        if request.get("ConsistentRead") or item is None:
            return item
        then = self.clock() - self.read_lag()
        known = [version for made, version in self._versions[item_id] if made <= then]
        return known[-1] if known else None


def client_error(
    code: str, status: int, operation: str, message: str = REFUSED, **fields: Any
) -> ClientError:
    """An error as botocore raises it."""
    response = {
        "Error": {"Code": code, "Message": message},
        "ResponseMetadata": {"HTTPStatusCode": status},
        **fields,
    }
    return ClientError(response, operation)


def _old_as_asked(request: Item, old: Item | None) -> Item:
    """The item that refused a write, for an error that is to tell it."""
    is_asked = request.get("ReturnValuesOnConditionCheckFailure") == "ALL_OLD"
    return {"Item": old} if old and is_asked else {}


def _index_order(key: Item) -> tuple[str, str]:
    return key["created_at"]["S"], key["id"]["S"]


def _projected(item: Item, request: Item) -> Item:
    if "ProjectionExpression" not in request:
        return item
    names = request["ExpressionAttributeNames"]
    wanted = (names[name] for name in request["ProjectionExpression"].split(","))
    return {name: item[name] for name in wanted if name in item}


@functools.cache
def _terms(condition: str) -> list[tuple[str, str, str]]:
    """A condition's terms, all of which must hold; an expression not known here is an error."""
    terms: list[tuple[str, str, str]] = []
    for term in filter(None, condition.split(" AND ")):
        match = re.fullmatch(r"(attribute_\w+)\((#\w+)\)|(#\w+) (=|>) (:\w+)", term)
        if not match or (match[1] or match[4]) not in COMPARISONS:
            raise ValueError(f"This memory knows no condition {term!r}")
        terms.append((match[1] or match[4], match[2] or match[3], match[5] or ""))
    return terms


def _holds(condition: str, item: Item | None, request: Item) -> bool:
    for operator, name, value in _terms(condition):
        held = (item or {}).get(request["ExpressionAttributeNames"][name])
        wanted = request["ExpressionAttributeValues"][value] if value else {}
        if not COMPARISONS[operator](held, wanted):
            return False
    return True


@functools.cache
def _update(expression: str) -> tuple[list[tuple[str, str, str, str]], list[str]]:
    """What an update sets, as (name, how, what it starts from, value), and what it removes."""
    sets, _, removed = expression.partition(" REMOVE ")
    first = r"if_not_exists\(\1, (:\w+)\)"
    how = rf"list_append\({first}, (?P<append>:\w+)\)|{first} \+ (?P<add>:\w+)|(?P<set>:\w+)"
    parsed, rest = [], sets.removeprefix("SET ")
    while rest:
        match = re.match(rf"(#\w+) = (?:{how})(?:, )?", rest)
        if not match:
            raise ValueError(f"This memory knows no update {rest!r}")
        rest = rest[match.end() :]
        operation = next(name for name in ("append", "add", "set") if match[name])
        default = match[2] or match[4] or ""
        parsed.append((match[1], operation, default, match[operation]))
    return parsed, removed.split(", ") if removed else []
