"""What DynamoDB bills for a request, by its documented arithmetic.

Emulators report constant units, so the real requests are metered here instead: each with the item
before and after it. The rules, from the developer guide (read and write operations; item sizes;
global secondary indexes):

    item size      the UTF-8 lengths of names and values; a number about half its digits and 1; a
                   list or a map 3 and 1 for each element
    read unit      4 KB consistently, half a unit eventually; what does not exist costs one too
    Query, Scan    the sizes of all items read, before any filter or projection, are added up first
    BatchGetItem   each item is rounded up by itself
    write unit     1 KB of the larger of the item before and after; a refused condition costs it too
    index          a put of a new entry 1, a changed key 2, an unchanged entry 0, each by the size
                   of the entry
"""

from __future__ import annotations

import math
from typing import Any

Item = dict[str, Any]

READ_BYTES = 4_096
WRITE_BYTES = 1_024


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
        case "L":
            return 3 + sum(1 + value_size(element) for element in content)
        case "M":
            return 3 + len(content) + item_size(content)
        case "BOOL" | "NULL":
            return 1
    raise ValueError(f"The size of {kind} is not known.")


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


def index_units(keys: tuple[str, ...], before: Item, after: Item) -> int:
    """Units of an index that holds only keys, the table's among them, for one write of the table."""
    entries = [
        {key: item[key] for key in keys} for item in (before, after) if item.keys() >= {*keys}
    ]
    unchanged = len(entries) == 2 and entries[0] == entries[1]
    return 0 if unchanged else sum(write_units(item_size(entry)) for entry in entries)
