"""A DynamoDB in memory: the operations and expressions that dynamodb_helpers uses, and no others.

A test does the same random operations here, in moto and in MiniStack, and finds no difference.
What those two do not have is here as well: an index that lags, reads that are not consistent, and
a transaction that is sent twice with one token and done once.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Any

from botocore.exceptions import ClientError

Item = dict[str, Any]
Values = dict[str, Any]
Names = dict[str, str]

KEPT_VERSIONS = 3
REFUSED = "The conditional request failed"


class DynamoDB:
    """One table with its index.

    ``on_write`` is told of every write, with the item before and after it. An item is in the index
    ``index_lag()`` seconds after it was put, and a read that is not consistent is ``read_lag()``
    seconds old. Items are never changed in place, so what is handed out needs no copy.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float] = lambda: 0.0,
        on_write: Callable[[Item | None, Item], None] = lambda _old, _new: None,
        index_lag: Callable[[], float] = lambda: 0.0,
        read_lag: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self.clock = clock
        self.on_write = on_write
        self.index_lag = index_lag
        self.read_lag = read_lag
        self.items: dict[str, Item] = {}
        self.has_index = True
        self.largest_write: int | None = None  # in bytes of text; over it a write is refused
        self._indexed_at: dict[str, float] = {}
        self._versions: dict[str, list[tuple[float, Item]]] = {}
        self._tokens: set[str] = set()

    def put_item(
        self,
        *,
        Item: Item,  # noqa: N803  botocore's names
        ConditionExpression: str = "",  # noqa: N803
        ExpressionAttributeNames: Names | None = None,  # noqa: N803
        **asked: Any,
    ) -> Item:
        """Puts an item, on a condition if there is one."""
        names = ExpressionAttributeNames or {}
        old = self.items.get(Item["id"]["S"])
        if not _holds(ConditionExpression, old, names, {}):
            raise _refusal(asked, old, "PutItem")
        self._keep(Item)
        return {}

    def update_item(self, *, ReturnValues: str = "NONE", **request: Any) -> Item:  # noqa: N803
        """Updates an item, on a condition."""
        self._must_fit("UpdateItem", request["ExpressionAttributeValues"])
        old, new = self._updated(request)
        if new is None:
            raise _refusal(request, old, "UpdateItem")
        self._keep(new)
        return {"Attributes": new} if ReturnValues == "ALL_NEW" else {}

    def transact_write_items(
        self,
        *,
        TransactItems: list[Item],  # noqa: N803
        ClientRequestToken: str = "",  # noqa: N803
    ) -> Item:
        """Does conditional updates and puts, and deletes, all of them or none."""
        if ClientRequestToken in self._tokens:
            return {}
        writes = [(kind, write) for item in TransactItems for kind, write in item.items()]
        texts = [
            write["Item"] if kind == "Put" else write["ExpressionAttributeValues"]
            for kind, write in writes
            if kind != "Delete"
        ]
        self._must_fit("TransactWriteItems", *texts)
        outcomes = [self._outcome(kind, write) for kind, write in writes]
        if any("Message" in reason for _new, reason in outcomes):
            raise client_error(
                "TransactionCanceledException",
                400,
                "TransactWriteItems",
                CancellationReasons=[reason for _new, reason in outcomes],
            )
        for new, _reason in outcomes:
            if new:
                self._keep(new)
        for kind, write in writes:
            if kind == "Delete":
                self.items.pop(write["Key"]["id"]["S"], None)
        if ClientRequestToken:
            self._tokens.add(ClientRequestToken)
        return {}

    def delete_item(self, *, Key: Item, **_asked: Any) -> Item:  # noqa: N803
        """Removes an item, as a person at the console does."""
        del self.items[Key["id"]["S"]]
        return {}

    def get_item(self, *, Key: Item, ConsistentRead: bool = False, **_asked: Any) -> Item:  # noqa: N803
        """Reads one item."""
        item = self._read(Key["id"]["S"], consistent=ConsistentRead)
        return {"Item": item} if item else {}

    def batch_get_item(self, *, RequestItems: dict[str, Item]) -> Item:  # noqa: N803
        """Reads items by their keys."""
        ((table, request),) = RequestItems.items()
        consistent = request.get("ConsistentRead", False)
        found = (self._read(key["id"]["S"], consistent=consistent) for key in request["Keys"])
        items = [_projected(item, request) for item in found if item]
        return {"Responses": {table: items}, "UnprocessedKeys": {}}

    def query(
        self,
        *,
        IndexName: str,  # noqa: N803
        ExpressionAttributeValues: Values,  # noqa: N803
        Limit: int,  # noqa: N803
        ExclusiveStartKey: Item | None = None,  # noqa: N803
        **_asked: Any,
    ) -> Item:
        """Reads a page of an owner's keys from the index, newest first."""
        if not self.has_index:
            message = f"The table does not have the specified index: {IndexName}"
            raise client_error("ValidationException", 400, "Query", message)
        owner, now = ExpressionAttributeValues[":owner"], self.clock()
        keys = [
            {name: item[name] for name in ("id", "owner", "created_at")}
            for item_id, item in self.items.items()
            if item.get("owner") == owner and self._indexed_at[item_id] <= now
        ]
        keys.sort(key=_index_order, reverse=True)
        if ExclusiveStartKey:
            start = _index_order(ExclusiveStartKey)
            keys = [key for key in keys if _index_order(key) < start]
        return {"Items": keys[:Limit]}

    def scan(self, **request: Any) -> Item:
        """Reads the whole table in one page."""
        condition = request["FilterExpression"]
        names = request["ExpressionAttributeNames"]
        items = (item for item in self.items.values() if _holds(condition, item, names, {}))
        return {"Items": [_projected(item, request) for item in items]}

    def _outcome(self, kind: str, write: Item) -> tuple[Item | None, Item]:
        """The item after a transaction's write, and the reason if it is refused."""
        if kind == "Delete":
            return None, {"Code": "None"}
        old, new = self._put(write) if kind == "Put" else self._updated(write)
        if new is not None:
            return new, {"Code": "None"}
        refused: Item = {"Code": "ConditionalCheckFailed", "Message": REFUSED}
        if old and write.get("ReturnValuesOnConditionCheckFailure") == "ALL_OLD":
            refused["Item"] = old
        return None, refused

    def _put(self, request: Item) -> tuple[Item | None, Item | None]:
        """The item before a put and after it; nothing after it if its condition fails."""
        old = self.items.get(request["Item"]["id"]["S"])
        names = request.get("ExpressionAttributeNames", {})
        values = request.get("ExpressionAttributeValues", {})
        is_held = _holds(request.get("ConditionExpression", ""), old, names, values)
        return old, request["Item"] if is_held else None

    def _updated(self, request: Item) -> tuple[Item | None, Item | None]:
        """The item before an update and after it; nothing after it if its condition fails."""
        old = self.items.get(request["Key"]["id"]["S"])
        names, values = request["ExpressionAttributeNames"], request["ExpressionAttributeValues"]
        if not _holds(request.get("ConditionExpression", ""), old, names, values):
            return old, None
        new = dict(old or request["Key"])
        sets, removed = _update(request["UpdateExpression"])
        for name, operation, default, value in sets:
            target, given = names[name], values[value]
            held = (old or {}).get(target, values.get(default))
            if operation == "append":
                given = {"L": held["L"] + given["L"]}
            elif operation == "add":
                given = {"N": str(int(held["N"]) + int(given["N"]))}
            new[target] = given
        for name in removed:
            new.pop(names[name], None)
        return old, new

    def _must_fit(self, operation: str, *parts: Item) -> None:
        if self.largest_write is None:
            return
        texts = (value["S"] for part in parts for value in part.values() if "S" in value)
        if sum(len(text.encode()) for text in texts) > self.largest_write:
            message = "Item size to update has exceeded the maximum allowed size"
            raise client_error("ValidationException", 400, operation, message)

    def _keep(self, item: Item) -> None:
        item_id, now = item["id"]["S"], self.clock()
        old = self.items.get(item_id)
        self.items[item_id] = item
        if old is None:
            self._indexed_at[item_id] = now + self.index_lag()
        versions = self._versions.setdefault(item_id, [])
        versions.append((now, item))
        del versions[:-KEPT_VERSIONS]
        self.on_write(old, item)

    def _read(self, item_id: str, *, consistent: bool) -> Item | None:
        item = self.items.get(item_id)
        if consistent or item is None:
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


def _refusal(request: Item, old: Item | None, operation: str) -> ClientError:
    error = client_error("ConditionalCheckFailedException", 400, operation)
    if old and request.get("ReturnValuesOnConditionCheckFailure") == "ALL_OLD":
        error.response["Item"] = old
    return error


def _index_order(key: Item) -> tuple[str, str]:
    return key["created_at"]["S"], key["id"]["S"]


def _projected(item: Item, request: Item) -> Item:
    if "ProjectionExpression" not in request:
        return item
    names = request["ExpressionAttributeNames"]
    wanted = (names[name] for name in request["ProjectionExpression"].split(","))
    return {name: item[name] for name in wanted if name in item}


@functools.cache
def _terms(condition: str) -> list[tuple[str, ...]]:
    """A condition's terms, all of which must hold; an expression not known here is an error."""
    terms: list[tuple[str, ...]] = []
    for term in filter(None, condition.split(" AND ")):
        if match := re.fullmatch(r"attribute_(exists|not_exists)\((#\w+)\)", term):
            terms.append((match[1], match[2], ""))
        elif match := re.fullmatch(r"(#\w+) (=|>) (:\w+)", term):
            terms.append((match[2], match[1], match[3]))
        else:
            raise ValueError(f"This memory knows no condition {term!r}")
    return terms


def _holds(condition: str, item: Item | None, names: Names, values: Values) -> bool:
    for operator, name, value in _terms(condition):
        held = (item or {}).get(names[name])
        match operator:
            case "exists":
                true = held is not None
            case "not_exists":
                true = held is None
            case "=":
                true = held == values[value]
            case _:
                true = held is not None and "S" in held and held["S"] > values[value]["S"]
        if not true:
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
