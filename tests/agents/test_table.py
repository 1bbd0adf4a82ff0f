"""What people see of real agents, replayed from what the SDK's server sent of them."""

import random
import re
from dataclasses import replace

import pytest

from tests.agents.record import differing
from tests.agents.replay import FOLDER, TABLE, Recording, blocks, file_of, replay, seen_of, table

BLOCKS = blocks()
# What Python and Strands say to each other and no person may read.
NOT_FOR_PEOPLE = re.compile(
    r" at 0x|[A-Z]\w+\(|UUID|toolUse|contentBlock|inputTokens|latencyMs|tracking_id|stop_reason"
    r"|'role'|\"role\"|```|'reason'"
)

every_agent = pytest.mark.parametrize("name", BLOCKS)


def test_every_recording_has_its_block():
    assert {file_of(name) for name in BLOCKS} == set(FOLDER.glob("**/*.txt"))
    assert table(BLOCKS) == TABLE.read_text(encoding="utf-8")


@every_agent
def test_people_see_what_was_judged_by_eye_and_the_log_has_what_they_do_not(name: str):
    seen = seen_of(name)
    assert str(seen) == BLOCKS[name]
    answer = seen.answer.agent_response if seen.answer else ""
    for text in (*seen.timeline, seen.error, answer):
        assert not NOT_FOR_PEOPLE.search(text), text
    assert seen.unparsed or "cannot be read" not in seen.error


@every_agent
def test_the_same_is_seen_however_the_bytes_arrive(name: str):
    recording = Recording.read(name)
    places = random.Random(name)
    for count in (1, 5, 50):
        cuts = [places.randrange(len(recording.body) + 1) for _ in range(count)]
        seen, judged = replay(recording, cuts), seen_of(name)
        if seen.error:
            # Nothing is read of what follows a failure: the log may have what had arrived of it.
            rest = seen.unparsed.encode()
            assert judged.unparsed.startswith(seen.unparsed) or rest in recording.body, cuts
            judged = replace(judged, unparsed=seen.unparsed)
        assert seen == judged, cuts


def test_an_agent_s_words_stay_the_same_whatever_way_it_hands_them_out():
    """The ways in which an answer is returned or yielded differ, the answer does not."""
    for agent, answer in {
        "tools": "I've e-mailed Green Fern and Dogwood Care. Both can come on Friday.",
        "structured": "Green Fern asks $240.",
        "JSON as text": "Green Fern asks $240.",
    }.items():
        for name in BLOCKS:
            if name.startswith(f"strands, {agent}: "):
                seen = seen_of(name)
                assert seen.answer is not None, name
                assert seen.answer.agent_response.strip().endswith(answer), name
                assert seen.error == "", name


@pytest.mark.e2e
def test_real_agents_of_strands_still_send_what_was_recorded():
    """After an upgrade: python -m tests.agents.record strands, and judge what changes in the table."""
    assert differing("strands") == set()
