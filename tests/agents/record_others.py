"""Records what agents of other frameworks than Strands send, each framework in an environment of its own.

    python -m tests.agents.record_others                 # all of them: some minutes, 4 GB
    python -m tests.agents.record_others langgraph adk

What is recorded changes with the frameworks: after that,
judge what_people_see.md by eye. `make test` replays the recordings.
"""

import json
import re
import shutil
import sys
from itertools import count
from pathlib import Path

from tests.agents import environments
from tests.agents.agents import AGENTS
from tests.agents.record import normal
from tests.agents.replay import FOLDER, TABLE, Recording, file_of, others, table

SCRIPTS = Path(__file__).parent / "frameworks"
# What tells messages and calls of one run apart, and times.
IDS = re.compile(
    rb"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|\b[0-9a-f]{32}\b|(?<=_)[0-9a-f]{32}\b"
    rb"|(?<=aitxt-)\w{24}"
)
TIMES = (
    (re.compile(rb"\b1[0-9]{12}\b"), b"1700000000000"),
    (re.compile(rb"\b20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+(?:\+00:00|Z)"), b"2026-01-01T00:00:00Z"),
    (re.compile(rb"datetime\.datetime\(20[\d, ]+"), b"datetime.datetime(2026, 1, 1, 0, 0, "),
)


def record(framework: str) -> None:
    """Makes a framework's recordings anew."""
    folder = FOLDER / framework
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    if framework == "typescript":
        environment = environments.node()
        shutil.copy(SCRIPTS / "of_typescript.mjs", environment)
        command = ["node", "--no-deprecation", "of_typescript.mjs", str(folder)]
        environments.run(command, environment)
    else:
        python = environments.python(framework)
        environments.run([python, "record_one.py", framework, str(folder)], SCRIPTS)
    for number, name in enumerate(json.loads((folder / "names.json").read_text())):
        file = folder / f"{number}"
        head, _, body = file.read_bytes().partition(b"\n\n")
        file_of(f"{framework}, {name}").write_bytes(head + b"\n\n" + stable(body))
        file.unlink()


def stable(body: bytes) -> bytes:
    """The same bytes at every run; different ids stay different."""
    numbers = count(1)
    seen: dict[bytes, bytes] = {}
    body = IDS.sub(lambda it: seen.setdefault(it[0], b"id-%d" % next(numbers)), body)
    for pattern, constant in TIMES:
        body = pattern.sub(constant, body)
    return normal(body)


def main() -> None:
    """Records those that are named, or all."""
    for framework in sys.argv[1:] or [*environments.REQUIREMENTS, "typescript"]:
        record(framework)
        names = json.loads((FOLDER / framework / "names.json").read_text())
        statuses = [Recording.read(f"{framework}, {name}").status for name in names]
        print(f"{framework}: {len(statuses)} agents, {statuses.count(200)} of which answer")
    TABLE.write_text(table([*AGENTS, *others()]), encoding="utf-8")


if __name__ == "__main__":
    main()
