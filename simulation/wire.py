"""The table of wire faults: what comes out of the real clients when something breaks under them.

Each row of wire_faults.json was measured on real sockets (wire_record.py) and holds for the
operations and routes that it names. So the simulation raises what is raised, not what one imagines.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

Row = dict[str, Any]

TABLE = Path(__file__).with_name("wire_faults.json")


def write(rows: list[Row]) -> None:
    """Writes the table, a line for each outcome of each fault."""
    lines: dict[str, dict[str, list[str]]] = {}
    for row in rows:
        outcome = {name: row[name] for name in row if name not in ("route", "operation")}
        routes = lines.setdefault(json.dumps(outcome), {})
        routes.setdefault(row["route"], []).append(row["operation"])
    text = [f'{line[:-1]}, "on": {json.dumps(routes)}}}' for line, routes in lines.items()]
    TABLE.write_text("[\n" + ",\n".join(text) + "\n]\n")


def read() -> list[Row]:
    """The rows of the table, one for each fault, route and operation."""
    return [
        {name: value for name, value in line.items() if name != "on"}
        | {"route": route, "operation": operation}
        for line in json.loads(TABLE.read_text())
        for route, operations in line["on"].items()
        for operation in operations
    ]
