"""What an agent answered, on the page: Markdown, one table of vendors, and never any markup."""

import time
from typing import Any

import pytest
from playwright.sync_api import expect

from local.faults import odd_answer
from tests.page.conftest import Backend, Open

pytestmark = pytest.mark.e2e

MARKUP = "<img src=x onerror='window.hacked = 1'><script>window.hacked = 1</script><b>bold</b>"
# What of an answer is an element, and which text it has.
OUTLINE = """root => [...root.querySelectorAll('*')].filter(e => e.matches(
    'h4, h5, h6, p, li, a, strong, em, del, code, th, td, blockquote, hr, br'))
    .map(e => `${e.localName}: ${e.textContent.trim()}`.trim())"""
IVY = {"id": "v1", "name": "Ivy", "emails": []}


MARKDOWN = {
    "Two lines\nof *one* **text**": ["p: Two linesof one text", "br:", "em: one", "strong: text"],
    "### Vendors\n# All\n## Some": ["h4: Vendors", "h4: All", "h5: Some"],
    "- one\n- [x] two\n\n3. three": ["li: one", "li: ☑ two", "li: three"],
    "|A|B|\n|-|-:|\n|1|2<br>3|": ["th: A", "th: B", "td: 1", "td: 23", "br:"],
    "> quoted\n\n---": ["blockquote: quoted", "p: quoted", "hr:"],
    "`a < b` &amp; ~~c~~ &#x2713;": ["p: a < b & c ✓", "code: a < b", "del: c"],
    "```\n# no heading\n```": ["code: # no heading"],
    "<h4>no</h4>\n\n5 < 6 & 7 > 2": ["p: <h4>no</h4>", "p: 5 < 6 & 7 > 2"],
    ">" * 20_000: [f"p: {'>' * 20_000}"],
}
LINKS = {
    "[site](https://ivy.example/a?b=1&c=2)": "https://ivy.example/a?b=1&c=2",
    "https://ivy.example": "https://ivy.example/",
    "me@ivy.example": "mailto:me@ivy.example",
    "[mail](mailto:me@ivy.example?bcc=you@example.com)": "mailto:me@ivy.example",
    "[call](tel:+17045550134)": "tel:+17045550134",
    "![photo](https://ivy.example/x.png)": "https://ivy.example/x.png",
    "[x](javascript:alert(1))": None,
    "[x](data:text/html,hello)": None,
    "[x](http://ivy.example)": None,
    "[x](//ivy.example)": None,
    "[x](https://your-bank.example@evil.example)": None,
}
MADE = """async texts => {
    const { makeMarkdown } = await import("./markdown.js");
    return texts.map(text => {
        const root = document.createElement("div");
        root.append(...makeMarkdown(text));
        return (%s)(root);
    });
}"""


def test_markdown_is_shown_as_what_it_means(visit: Open):
    made = visit().evaluate(MADE % OUTLINE, list(MARKDOWN))

    assert dict(zip(MARKDOWN, made, strict=True)) == MARKDOWN


def test_only_links_that_are_safe_are_links(visit: Open):
    anchors = "root => [...root.querySelectorAll('a')].map(a => [a.href, a.rel, a.target])"
    made = visit().evaluate(MADE % anchors, list(LINKS))

    assert made == [[[to, "noopener noreferrer", "_blank"]] if to else [] for to in LINKS.values()]


@pytest.mark.parametrize(
    "vendors, quotes, rows",
    [
        (  # by either pair of names, the least expensive first
            [IVY | {"price": 300}, {"id": "v2", "name": "Oak", "emails": []}],
            [{"vendor_id": "v1", "amount": 240}, {"vendor": "Oak", "price": 195.5}],
            ["Oak Lowest price||$195.50", "Ivy||$240.00"],
        ),
        (  # several quotes of one vendor, and quotes of nobody in the list
            [IVY | {"rating": 4.5}],
            [
                {"vendor_id": "v1", "amount": 1_275, "text": "with hedges"},
                {"vendor_id": "v1", "amount": 240, "days": 3},
                {"vendor_id": "v9", "price": "about $50"},
            ],
            ["Ivy|★ 4.5|$1,275.00with hedges$240.00Days: 3", "v9||about $50"],
        ),
        (  # no comparison across currencies
            [IVY | {"price": 9, "currency": "EUR"}, {"name": "Oak", "price": 5, "emails": []}],
            [],
            ["Ivy||€9.00", "Oak||$5.00"],
        ),
        (  # nor of what is the same; a price may be a text
            [IVY | {"price": "$1,200", "rating": 4}, {"name": "Oak", "rating": "4", "emails": []}],
            [{"vendor": "Oak", "price": 1_200}],
            ["Ivy|★ 4|$1,200.00", "Oak|★ 4|$1,200.00"],
        ),
        (
            [IVY | {"rating": 4.1}, {"name": "Oak", "rating": 4.9, "emails": []}],
            [],
            ["Ivy|★ 4.1|", "Oak Best rated|★ 4.9|"],
        ),
    ],
)
def test_vendors_and_their_quotes_are_one_table(
    show: Open, vendors: Any, quotes: Any, rows: list[str]
):
    page = show(vendors=vendors, quotes=quotes)

    cells = "rows => rows.map(row => [...row.cells].map(cell => cell.textContent).join('|'))"
    assert page.locator("#vendors tbody tr:first-child").evaluate_all(cells) == rows


def test_a_vendor_can_be_written_to_and_called(show: Open):
    vendor = {
        "email": "a@ivy.example",
        "phone": "(704) 555-0134",
        "website": "https://ivy.example/",
    }
    extension = {"name": "Oak", "phone": "704-555-0199 ext. 4", "zip": 28202, "emails": []}
    page = show(vendors=[IVY | vendor, extension], quotes=[])

    links = page.locator("#vendors a").evaluate_all("all => all.map(a => [a.textContent, a.href])")
    assert links == [
        ["a@ivy.example", "mailto:a@ivy.example"],
        ["(704) 555-0134", "tel:7045550134"],
        ["ivy.example", "https://ivy.example/"],
    ]
    expect(page.locator("#vendors tbody").last).to_contain_text("704-555-0199 ext. 4Zip28202")


def test_what_users_and_agents_write_is_text_never_markup(backend: Backend, visit: Open):
    vendor = {"name": MARKUP, "email": MARKUP, MARKUP: MARKUP, "rating": {"a": MARKUP}}
    mail = {"recipient": MARKUP, "subject": MARKUP, "body": MARKUP, "timestamp": MARKUP}
    task_id = backend.create(MARKUP)
    claim = backend.claim(task_id)
    backend.say(claim, MARKUP)
    backend.complete(
        claim,
        agent_response=MARKUP,
        vendors=[vendor | {"emails": [mail, MARKUP]}],
        quotes=[{"vendor": MARKUP, "price": MARKUP, "currency": MARKUP, MARKUP: MARKUP}],
    )
    backend.fail(backend.claim(backend.create(MARKUP)), "agent_failed", MARKUP)

    page = visit(f"#/tasks/{task_id}")
    expect(page.locator("#answer")).to_have_text(MARKUP)
    page.get_by_text("2 e-mails sent").click()
    for place in ("#what", "#vendors .name", ".email strong", "#tasks .what", ".amount"):
        expect(page.locator(place).first).to_have_text(MARKUP)
    expect(page.locator("#timeline li span").nth(2)).to_have_text(MARKUP)
    expect(page.locator("#tasks li")).to_have_count(2)  # the list, and not the open task alone
    page.locator("#tasks a").first.click()
    expect(page.locator("#report-text")).to_have_text(MARKUP)

    assert page.locator("main img, main script, main b").count() == 0
    assert page.evaluate("window.hacked") is None
    # The browser itself would refuse markup, should a later change of the page forget.
    refused = "code => { try { eval(code); } catch (error) { return error.name; } }"
    for code in ("document.body.innerHTML = '<b>x</b>'", "trustedTypes.createPolicy('p', {})"):
        assert page.evaluate(refused, code) in {"TypeError", "EvalError"}


def test_any_answer_that_json_can_hold_is_shown(show: Open):
    odd = odd_answer()
    vendors = [odd["vendors"][0] | {"emails": [None, 3]}, {"tags": ["fast", 2], "emails": []}]
    quotes = [{"text": "about $300"}, {}, {"vendor": None, "price": 1e300, "currency": "XYZW"}]
    page = show(agent_response=odd["response"], vendors=vendors, quotes=quotes, emails_sent=0)

    names = page.locator("#vendors .name")
    expect(names).to_have_count(5)
    assert odd["vendors"][0]["name"] in names.all_inner_texts()
    expect(page.locator("#vendors")).to_contain_text("Tagsfast, 2")
    expect(page.locator("#vendors")).to_contain_text("about $300")
    expect(page.locator("#emails")).to_have_text("")


def test_no_text_keeps_the_page_busy(visit: Open):
    page = visit()
    texts = ["[*a " * 12_000, ("[*a " * 700 + "\n\n") * 20, "# long " * 100_000]
    lengths = "root => { root.normalize(); return root.textContent.trim().length }"
    began = time.monotonic()
    made = page.evaluate(MADE % lengths, texts)

    assert made[0] == len(texts[0]) - 1
    assert made[2] == len(texts[2]) - 1
    assert time.monotonic() - began < 20, "a second on an idle machine; without limits, minutes"


def test_what_runs_from_right_to_left_does(backend: Backend, visit: Open):
    task_id = backend.create("ابحث لي عن بستاني")
    claim = backend.claim(task_id)
    backend.say(claim, "جارٍ البحث")
    backend.complete(claim, agent_response="وجدت ثلاثة\n\n- واحد")
    page = visit(f"#/tasks/{task_id}")
    expect(page.locator("#answer li")).to_have_text("واحد")

    direction = "e => getComputedStyle(e).direction"
    for place in ("#what", "#answer p", "#answer li", "#timeline li:nth-child(3) span", ".what"):
        assert page.locator(place).first.evaluate(direction) == "rtl", place
    assert page.locator("#vendors .name").first.evaluate(direction) == "ltr"
