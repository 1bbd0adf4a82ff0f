"""Records what real agents send, each framework in an environment of its own, and what people see.

    python -m tests.agents.record                   # all of them: some minutes, 4 GB
    python -m tests.agents.record strands adk       # only these
    python -m tests.agents.record --check strands   # says which differ from what is recorded

What is recorded changes with the frameworks: after that, judge what_people_see.md by eye.
What differs from run to run (addresses, random ids, times) is written the same each time.
"""

import json
import re
import shutil
import sys
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.agents import environments
from tests.agents.replay import FOLDER, TABLE, blocks, file_of, framework_of, table

SCRIPTS = Path(__file__).parent / "frameworks"
# Strands changes an event while the SDK writes it: agents pause after each, and one that differs
# under load is asked again.
TRIES = 5
# What tells messages and calls of one run apart.
IDS = re.compile(
    rb"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|\b[0-9a-f]{32}\b|(?<=_)[0-9a-f]{32}\b"
    rb"|(?<=aitxt-)\w{24}"
)
CHANGING = (
    (re.compile(rb"\b1[0-9]{12}\b"), b"1700000000000"),
    (re.compile(rb"\b20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+(?:\+00:00|Z)"), b"2026-01-01T00:00:00Z"),
    (re.compile(rb"datetime\.datetime\(20[\d, ]+"), b"datetime.datetime(2026, 1, 1, 0, 0, "),
    (re.compile(rb"\b0x[0-9a-f]{6,}"), b"0x7f00"),
    (re.compile(rb"\b\d{10}\.\d+"), b"1700000000.5"),  # time.time()
    (re.compile(rb"\b\d+\.\d{6,}(?:e-\d+)?\b|\b\d\.\d+e-\d\d\b"), b"0.25"),  # durations
    (re.compile(rb"(execution_time(?:=|\\?[\"']: ))\d+"), rb"\g<1>7"),
    (re.compile(rb"(latencyMs\\*[\"']: )\d+"), rb"\g<1>5"),
    (re.compile(rb", \\*[\"']timeToFirstByteMs\\*[\"']: \d+"), b""),
)


def record(framework: str) -> dict[str, bytes]:
    """What a framework's agents send, by their names in the table."""
    with TemporaryDirectory() as folder:
        if framework == "typescript":
            environment = environments.node()
            shutil.copy(SCRIPTS / "of_typescript.mjs", environment)
            command = ["node", "--no-deprecation", "of_typescript.mjs", folder]
            environments.run(command, environment)
        else:
            python = environments.python(framework) if framework != "strands" else sys.executable
            environments.run([python, "record_one.py", framework, folder], SCRIPTS)
        names = json.loads(Path(folder, "names.json").read_text())
        files = [Path(folder, f"{number}").read_bytes() for number in range(len(names))]
    are_told_apart = framework != "strands"  # whose agents make too many
    return {
        f"{framework}, {name}": stable(sent, are_told_apart)
        for name, sent in zip(names, files, strict=True)
    }


def stable(sent: bytes, are_told_apart: bool) -> bytes:
    """The same bytes at every run; different ids stay different."""
    numbers = count(1)
    seen: dict[bytes, bytes] = {}
    if are_told_apart:
        sent = IDS.sub(lambda it: seen.setdefault(it[0], b"id-%d" % next(numbers)), sent)
    else:
        sent = IDS.sub(b"00000000-uuid", sent)
    for pattern, constant in CHANGING:
        sent = pattern.sub(constant, sent)
    return sent


def differing(framework: str) -> set[str]:
    """The agents that send something else than what is recorded, or are not recorded."""
    names = [name for name in blocks() if framework_of(name) == framework]
    recorded = {name: file_of(name).read_bytes() for name in names}
    changed: set[str] = set()
    for attempt in range(TRIES):
        sent = record(framework)
        differ = {name for name in recorded | sent if recorded.get(name) != sent.get(name)}
        changed = changed & differ if attempt else differ
        if not changed:
            break
    return changed


def write(framework: str) -> None:
    """Makes a framework's recordings and its part of the table anew."""
    sent = record(framework)
    shutil.rmtree(FOLDER / framework, ignore_errors=True)
    (FOLDER / framework).mkdir(parents=True)
    for name, body in sent.items():
        file_of(name).write_bytes(body)
    others = [name for name in blocks() if framework_of(name) != framework]
    TABLE.write_text(table(sorted([*others, *sent], key=framework_of)), encoding="utf-8")


def main() -> int:
    """Records, or compares, the frameworks that are named, or all."""
    named = [one for one in sys.argv[1:] if one != "--check"]
    for framework in named or ["strands", "typescript", *environments.REQUIREMENTS]:
        if "--check" not in sys.argv:
            write(framework)
        elif changed := differing(framework):
            print(*sorted(changed), sep="\n")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
