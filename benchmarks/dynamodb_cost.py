"""What DynamoDB bills for a request, by its documented arithmetic.

Emulators report constant units, so the real requests are metered here instead: each with the item
before and after it. The rules, from the developer guide (read and write operations; item sizes;
global secondary indexes; transactions):

    item size      the UTF-8 lengths of names and values; a number about half its digits and 1; a
                   list or a map 3 and 1 for each element
    read unit      4 KB consistently, half a unit eventually; what does not exist costs one too
    Query, Scan    the sizes of all items read, before any filter or projection, are added up first
    BatchGetItem   each item is rounded up by itself
    write unit     1 KB of the larger of the item before and after; a refused condition costs it too
    index          a put of a new entry 1, a changed entry 1, a changed key 2, an unchanged entry 0,
                   each by the size of the entry
    transaction    twice
"""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

Item = dict[str, Any]

READ_BYTES = 4_096
WRITE_BYTES = 1_024
PAGE_BYTES = 1_048_576  # a Query or a Scan ends after so much


def item_size(item: Item) -> int:
    """An item's size in bytes, as DynamoDB counts it."""
    return sum(len(name.encode()) + value_size(value) for name, value in item.items())


def value_size(value: dict[str, Any]) -> int:
    """A value's size in bytes, of DynamoDB's typed form."""
    ((kind, content),) = value.items()
    match kind:
        case "S":
            return len(content.encode())
        case "N":
            return number_size(content)
        case "B":
            data = content if isinstance(content, bytes) else base64.b64decode(content)
            return len(data)
        case "L":
            return 3 + sum(1 + value_size(element) for element in content)
        case "M":
            pairs = ((len(name.encode()), element) for name, element in content.items())
            return 3 + sum(1 + name + value_size(element) for name, element in pairs)
        case "SS":
            return sum(len(text.encode()) for text in content)
        case "NS":
            return sum(map(number_size, content))
    return 1  # BOOL, NULL


def number_size(text: str) -> int:
    """About one byte for two significant digits, one more, and one for a sign."""
    mantissa = text.lower().partition("e")[0]
    digits = mantissa.lstrip("-+").replace(".", "").strip("0")
    return math.ceil(len(digits) / 2) + 1 + mantissa.startswith("-")


def read_units(size: int, *, consistent: bool) -> float:
    """Units for reading so many bytes at once."""
    return max(1, math.ceil(size / READ_BYTES)) * (1.0 if consistent else 0.5)


def write_units(size: int) -> int:
    """Units for writing so many bytes."""
    return max(1, math.ceil(size / WRITE_BYTES))


@dataclass(frozen=True)
class Index:
    """A global secondary index: its keys, and what it holds of an item (None: everything)."""

    keys: tuple[str, ...]
    projected: frozenset[str] | None

    @classmethod
    def from_definition(cls, index: dict[str, Any], table_key: str) -> Index:
        """Reads an index of a create_table request."""
        keys = tuple(key["AttributeName"] for key in index["KeySchema"])
        projection = index["Projection"]
        if projection["ProjectionType"] == "ALL":
            return cls(keys, None)
        attributes = {table_key, *keys, *projection.get("NonKeyAttributes", ())}
        return cls(keys, frozenset(attributes))

    def entry(self, item: Item) -> Item:
        """What the index holds of an item; {} of one that lacks a key."""
        if any(key not in item for key in self.keys):
            return {}
        if self.projected is None:
            return item
        return {name: value for name, value in item.items() if name in self.projected}

    def units(self, before: Item, after: Item) -> int:
        """Write units of the index for one write of the table."""
        old, new = self.entry(before), self.entry(after)
        if old == new:
            return 0
        if not old or not new:
            return write_units(item_size(old or new))
        if any(old[key] != new[key] for key in self.keys):
            return write_units(item_size(old)) + write_units(item_size(new))
        return write_units(max(item_size(old), item_size(new)))


@dataclass
class Bill:
    """How many requests, and the units they consumed."""

    requests: int = 0
    read: float = 0.0
    write: float = 0.0
    index_write: float = 0.0
    operations: list[str] = field(default_factory=list)

    def add(self, operation: str, read: float = 0, write: float = 0, index: float = 0) -> None:
        """Adds one request."""
        self.requests += 1
        self.read += read
        self.write += write
        self.index_write += index
        self.operations.append(operation)

    @property
    def all_writes(self) -> float:
        """Write units of the table and its indexes."""
        return self.write + self.index_write


@dataclass
class Meter:
    """Bills the requests to one table."""

    indexes: dict[str, Index]
    bill: Bill = field(default_factory=Bill)

    @classmethod
    def of(cls, definition: dict[str, Any]) -> Meter:
        """Takes a create_table request."""
        key = definition["KeySchema"][0]["AttributeName"]
        indexes = definition.get("GlobalSecondaryIndexes", ())
        return cls({index["IndexName"]: Index.from_definition(index, key) for index in indexes})

    def wrote(self, operation: str, before: Item, after: Item) -> None:
        """Bills a write of one item; a refused one left it as it was."""
        units = write_units(max(item_size(before), item_size(after)))
        index = sum(each.units(before, after) for each in self.indexes.values())
        self.bill.add(operation, write=units, index=index)

    def got(self, operation: str, items: Iterable[Item], *, consistent: bool) -> None:
        """Bills GetItem or BatchGetItem: items are rounded up one by one; {} is one not found."""
        units = sum(read_units(item_size(item), consistent=consistent) for item in items)
        self.bill.add(operation, read=units)

    def paged(
        self, operation: str, items: Iterable[Item], index: str | None, *, consistent: bool
    ) -> None:
        """Bills one page of a Query or a Scan by all that it read, filtered or not."""
        entries = [self.indexes[index].entry(item) if index else item for item in items]
        size = sum(map(item_size, entries))
        self.bill.add(operation, read=read_units(size, consistent=consistent))
