"""What the values that agents send are: JSON, texts of it, reprs, answer objects."""

from typing import Any

import pytest

from tests.product.agent_reading import MAYBE, read_frames, read_json, read_stream, read_whole
from tests.product.agent_server import line
from valro.agent.answers import AgentFailed, Answer
from valro.agent.values import from_text, is_python_repr

ODD = {
    "no value": b"NULL",
    "5,000 digits": b"1" * 5_000,
    "600 deep": b"[" * 600 + b"]" * 600,
    "100,000 deep, cut": b'{"a":' * 100_000,
    "invalid UTF-8": b'"\xff\xfe"',
    "UTF-16": '"x"'.encode("utf-16"),
}


@pytest.mark.parametrize("name", ODD)
def test_what_no_browser_could_read_makes_an_answer_bad_and_is_kept(name: str):
    body = b'{"response": "x", "quotes": [' + ODD[name] + b"]}"
    with pytest.raises(AgentFailed) as caught:
        read_whole(body)
    assert str(caught.value) == f"The agent's answer cannot be read. {MAYBE}"
    assert caught.value.unparsed == body.decode(errors="replace")
    body = body.replace(b"\n", b"")
    with pytest.raises(AgentFailed) as caught:
        read_stream(line("Hello"), b"data: " + body + b"\n\n")
    assert caught.value.partial == Answer("Hello")
    assert body.decode(errors="replace") in caught.value.unparsed


def test_halves_of_surrogate_pairs_become_replacement_characters():
    body = rb'{"response": "a\ud800b\udc00", "vendors": [{"\udfff": "\ud83c\udfe0 \ud83c"}]}'
    for answer in (read_whole(body), read_stream(b"data: " + body + b"\n\n")[0]):
        assert answer.agent_response == "a\ufffdb\ufffd"
        assert answer.vendors == [{"\ufffd": "🏠 \ufffd", "emails": []}]


def test_nesting_up_to_490_is_kept():
    value: Any = []
    for _ in range(490):
        value = [value]
    assert read_json({"quotes": [{"deep": value}]}).quotes == [{"deep": value}]


OBJECT = '{"vendors": [{"name": "Ann"}], "response": "She is free."}'


@pytest.mark.parametrize(
    "text, response",
    [
        (OBJECT, "She is free."),
        (f"```json\n{OBJECT}\n```", "She is free."),
        (f"I found Ann. {OBJECT}", "I found Ann.\n\nShe is free."),
        (f"I found Ann:\n```JSON\n{OBJECT}\n```", "I found Ann:\n\nShe is free."),
        ('I found Ann:\n{"vendors": [{"name": "Ann"}]}', "I found Ann:"),
    ],
)
def test_an_answer_object_at_the_end_of_a_text_is_the_answer(text: str, response: str):
    for answer in (read_json(text), read_frames(text)[0], read_frames(*text)[0]):
        assert answer.agent_response == response
        assert answer.vendors == [{"name": "Ann", "emails": []}]
    assert read_json('Free: {"response": 0}').agent_response == "Free:\n\n0"


@pytest.mark.parametrize(
    "text",
    [
        f"{OBJECT} That is all.",
        'Type {"response": 5',
        '{"a": 1} and {"response": 5}',
        "```\ncode\n```",
        "}",
    ],
)
def test_other_text_with_objects_stays_as_it_is(text: str):
    assert read_json(text) == read_frames(text)[0] == Answer(text)


@pytest.mark.parametrize(
    "text",
    [
        "{'data': 'Hi', 'agent': <strands.agent.agent.Agent object at 0x7fa139d4dd90>}",
        "{'data': '" + "x" * 200_000 + "', 'id': UUID('5f')}",
        "{'a': [<__main__.Agent object at 0x7fa139d4dd90>]}",
    ],
    ids=lambda text: text[:20],
)
def test_the_repr_of_a_dict_with_python_objects_never_reaches_a_person(text: str):
    assert is_python_repr(text)
    answer, said = read_frames(text, "x")
    assert (answer, said) == (Answer("x"), [])


@pytest.mark.parametrize(
    "text",
    [
        "{",
        '{"a": 1}',
        "Dear {'name'}",
        "{'a': {'b': [1, None, True]}, 'c': 1.5}",
        "{'data': 'cut off in the mid",
        "{'a': 1, []: 2}",
        "{'a': '\\d'}",
        "{'" + "(" * 10_000,
        "{'a': " + "-" * 100_000 + "1}",
        "[" * 10_000,
    ],
    ids=lambda text: text[:20],
)
def test_other_text_with_braces_is_text(text: str):
    """Whatever it begins with: a person would miss it."""
    assert not is_python_repr(text)
    assert read_frames("Prices: ", text, " for mowing")[0] == Answer(f"Prices: {text} for mowing")
    assert read_json(text) == Answer(text)


@pytest.mark.parametrize(
    "text, frame",
    [
        (str({"result": 5}), {"result": 5}),
        ("{'a': Decimal('390'), 'b': [Decimal('1.5')]}", {"a": 390, "b": [1.5]}),
        ("{'a': datetime.date(2026, 1, 2), 'b': UUID('5f')}", {"a": "2026-01-02", "b": "5f"}),
        (
            "{'a': datetime.datetime(2026, 1, 2, 3, 4, tzinfo=datetime.timezone.utc)}",
            {"a": "2026-01-02T03:04:00+00:00"},
        ),
        ("{'a': {'b'}}", {"a": ["b"]}),
        ("{'a': Decimal('many')}", None),
    ],
)
def test_a_python_repr_is_read(text: str, frame: Any):
    assert from_text(text) == from_text(text, with_objects=True) == frame


@pytest.mark.parametrize(
    "text, frame",
    [
        ("{'a': UUID('5f'), 'b': [<x.Y object at 0x7f>]}", {"a": "5f", "b": [None]}),
        ("{'a': A(x=1, y=B(z='<b> at 0x7f'))}", {"a": {"x": 1, "y": {"z": "<b> at 0x7f"}}}),
        ("{'a': {A(x=1)}, 'b': <S.DONE: 'done'>}", {"a": [{"x": 1}], "b": None}),
        ("{'a': __import__('os').getcwd()}", {"a": {}}),
    ],
)
def test_objects_in_a_repr_are_what_they_were_made_with_if_they_may_be_and_never_run(
    text: str, frame: Any
):
    assert from_text(text, with_objects=True) == frame
    assert from_text(text) is None


@pytest.mark.parametrize(
    "value, response",
    [
        ("Hello", "Hello"),
        ({"response": "Hello"}, "Hello"),
        ({"response": None, "result": "Hello"}, "Hello"),
        ({"response": "", "emails_sent": 1}, ""),
        ({"vendors": [{"name": "Ann"}]}, ""),
        ({"result": {"role": "assistant", "content": [{"text": "Hel"}, {"text": "lo"}]}}, "Hello"),
        ({"result": [{"text": "Hel"}, {"toolUse": {}}, {"text": "lo"}]}, "Hello"),
        ({"result": {"role": "assistant", "content": [{"toolUse": {}}]}, "emails_sent": 1}, ""),
        ({"result": {"price": 5}}, '{"price": 5}'),
        ({"result": False}, "false"),
        ({"something": "else"}, '{"something": "else"}'),
        (["a", "b"], '["a", "b"]'),
        (5, "5"),
        ({"response": "Hello", "error": ""}, "Hello"),
    ],
)
def test_every_shape_of_response_is_text(value: Any, response: str):
    assert read_json(value).agent_response == response


def test_vendors_get_the_emails_sent_to_them_whatever_the_case():
    answer = read_json(
        {
            "response": "x",
            "vendors": [{"name": "Ann", "email": "Ann@X.com"}, {"name": "Bob", "email": "bob@x"}],
            "emails": [
                {"recipient": "ann@x.COM ", "subject": "1"},
                {"recipient": "BOB@x", "subject": "2"},
                {"recipient": "ANN@x.com", "subject": "3"},
            ],
        }
    )
    subjects = [[email["subject"] for email in vendor["emails"]] for vendor in answer.vendors]
    assert subjects == [["1", "3"], ["2"]]
    assert answer.emails_sent == 3
    assert answer.unmatched_emails == []


def test_an_email_to_no_vendor_is_counted_and_kept():
    emails: list[Any] = [{"recipient": "eve@x"}, {"subject": "?"}, "text", {"recipient": ["a"]}]
    answer = read_json({"vendors": [{"name": "Ann"}, {"email": ""}, 7], "emails": emails})
    assert answer.unmatched_emails == emails
    assert answer.emails_sent == 4
    assert [vendor["emails"] for vendor in answer.vendors] == [[], [], []]


@pytest.mark.parametrize(
    "said, counted",
    [(5, 5), (0, 0), (2.0, 2), (None, 1), ("3", 1), (True, 1), (-1, 1), (10**30, 1), ([], 1)],
)
def test_emails_sent_is_the_agent_s_number_if_it_is_one(said: Any, counted: int):
    answer = read_json({"emails": [{"recipient": "a@x"}], "emails_sent": said})
    assert answer.emails_sent == counted


@pytest.mark.parametrize(
    "value, vendors",
    [
        (None, []),
        ({"name": "Ann"}, [{"name": "Ann", "emails": []}]),
        (["Ann"], [{"name": "Ann", "emails": []}]),
    ],
)
def test_vendors_in_other_shapes_become_objects(value: Any, vendors: list[Any]):
    assert read_json({"response": "x", "vendors": value}).vendors == vendors


def test_values_survive_as_they_were_and_what_is_no_number_costs_nothing_else():
    quote = {"price": 1.5, "large": 1e300, "tiny": 5e-324, "digits": 10**40, "no": None}
    assert read_json({"quotes": [quote]}).quotes == [quote]
    body = b'{"response": "x", "quotes": [{"price": NaN}, {"price": -Infinity}, {"price": 5}]}'
    for answer in (read_whole(body), read_stream(b"data: " + body)[0]):
        assert answer.quotes == [{"price": None}, {"price": None}, {"price": 5}]
