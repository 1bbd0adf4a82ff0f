"""What the documents state and something else knows: links, options, fields, codes, numbers."""

import ast
import json
import re

import pytest
import yaml  # type: ignore[import-untyped]  # it ships no types

import lambda_function
from local.aws import ROOT
from tests.deployment.test_template import dashboard, read_template
from tests.project.test_readme import PAGES
from valro import api_requests, tasks
from valro.http_events import STATUS_OF

README, CONTRIBUTING, FRONTEND, OPERATORS, BY_HAND, LIFE = (
    PAGES[name]
    for name in (
        "README.md",
        "CONTRIBUTING.md",
        "docs/frontend.md",
        "docs/operators.md",
        "docs/by-hand.md",
        "docs/how-a-task-lives.md",
    )
)
QUERY_WORDS = (
    "filter fields stats sort by desc as in and or count count_distinct sum pct earliest latest"
)
QUERY_WORDS += " bin h d ispresent limit number example p since last tasks dollars"
# Lambda's own line about each run.
QUERY_WORDS += " type record metrics billed memory"


def test_the_readme_is_short():
    assert len(README.splitlines()) <= 250
    assert len(README.split()) <= 1_400


@pytest.mark.parametrize("page", [README, CONTRIBUTING], ids=["README", "CONTRIBUTING"])
def test_what_the_layout_names_is_there(page: str):
    _, _, layout = page.partition("## Repository layout\n\n```\n")
    named = [line.split("  ")[0] for line in layout.partition("```")[0].splitlines()]
    assert len(named) > 8
    assert [name for name in ", ".join(named).split(", ") if not (ROOT / name).exists()] == []


def test_the_layout_names_every_module_of_the_product():
    modules = [path.relative_to(ROOT).as_posix() for path in ROOT.glob("valro/**/[a-z]*.py")]
    assert [name for name in modules if f"{name} " not in CONTRIBUTING] == []


def test_every_link_within_the_project_leads_somewhere():
    for page, text in PAGES.items():
        for link in re.findall(r"\]\((?!https?:)([^)]+)\)", text):
            path, _, anchor = link.partition("#")
            target = ((ROOT / page).parent / path).resolve() if path else ROOT / page
            assert target.exists(), f"{page}: {link}"
            headings = re.findall(r"^#+ (.+)$", target.read_text(), re.MULTILINE) if anchor else []
            anchors = [re.sub(r"[^\w -]", "", each.lower()).replace(" ", "-") for each in headings]
            assert not anchor or anchor in anchors, f"{page}: {link}"


def test_every_option_of_the_script_is_explained_with_its_default():
    given_by_the_script = {"CodeBucket", "ApiCodeKey", "WorkerCodeKey", "LambdaRuntime"}
    explained: dict[str, str] = {}
    section = OPERATORS.partition("\n## By script\n")[2].partition("\n## ")[0]
    for cell, default in re.findall(r"^\| (`--.+?`) \| (.+?) \|", section, re.MULTILINE):
        options = re.findall(r"--([a-z-]+)", cell)
        explained |= zip(options, default.split(", ") * len(options), strict=False)
    expected = {
        re.sub(r"(?<!^)([A-Z])", r"-\1", name).lower(): str(each.get("Default", ""))
        for name, each in read_template()["Parameters"].items()
        if name not in given_by_the_script
    }
    assert explained.keys() == expected.keys()
    assert {o: d for o, d in expected.items() if d and explained[o].strip("`") != d} == {}


def test_the_pipeline_uses_options_that_there_are():
    jobs = yaml.safe_load((ROOT / "docs" / "github-actions.yml").read_text())["jobs"]
    commands = " ".join(step.get("run", "") for job in jobs.values() for step in job["steps"])
    options = re.findall(r" --([a-z-]+)", commands)
    assert options
    assert [option for option in options if f"`--{option}`" not in OPERATORS] == []


def test_what_is_asked_of_the_log_is_what_is_written_there():
    logged, outcomes = {"level", "message"}, set()
    for module in (*ROOT.glob("*.py"), *ROOT.glob("valro/**/*.py")):
        outcomes |= set(re.findall(r"outcome(?:=|\()\"(\w+)\"", module.read_text()))
        for node in ast.walk(ast.parse(module.read_text())):
            if isinstance(node, ast.Call):
                logged |= {str(keyword.arg) for keyword in node.keywords}
            elif isinstance(node, ast.Dict):
                logged |= {str(key.value) for key in node.keys if isinstance(key, ast.Constant)}
    assert len(outcomes) > 4
    assert [outcome for outcome in outcomes if f"`{outcome}`" not in OPERATORS] == []
    queries = [each.get("query", "") for each in dashboard()]
    queries += re.findall(r"[`'](filter .+?)[`']", OPERATORS)
    assert len(queries) > 6
    for query in queries:
        words = re.findall(r"(?<![@\w])[a-z_]+", re.sub(r"'.*?'|\".*?\"", "", query))
        assert set(words) - set(QUERY_WORDS.split()) <= logged, query


def test_codes_and_versions_are_the_same_everywhere():
    contract = yaml.safe_load((ROOT / "openapi.yaml").read_text())
    codes = contract["components"]["schemas"]["ErrorCode"]["x-extensible-enum"]
    assert [code for code in codes if f"`{code}`" not in FRONTEND] == []
    rows = re.findall(r"^\| (\d{3}) \| (`.+?) \|", FRONTEND, re.MULTILINE)
    rows += re.findall(r" (\d{3}) (`\w+`)", " ".join(PAGES.values()))
    assert len(rows) > 20
    for status, cell in rows:
        assert {STATUS_OF[code] for code in re.findall(r"`(\w+)`", cell)} == {int(status)}, cell
    reasons = re.findall(
        r"^  (\w+): \{ title", (ROOT / "local/page/words.js").read_text(), re.MULTILINE
    )
    assert len(reasons) == 9
    assert [code for code in reasons if f"| `{code}` |" not in FRONTEND] == []
    assert [code for code in reasons if f"`{code}`" not in LIFE] == []
    version = re.findall(r"^## \[(\d.+)\]", PAGES["CHANGELOG.md"], re.MULTILINE)[0]
    assert contract["info"]["version"] == version
    assert f'version = "{version}"\n' in (ROOT / "pyproject.toml").read_text()
    assert json.loads((ROOT / "clients/typescript/package.json").read_text())["version"] == version


def test_numbers_of_the_documents_are_those_of_the_code():
    age, margin, kilobyte = tasks.MAXIMUM_EVENT_AGE_SECONDS, tasks.DEADLINE_MARGIN_SECONDS, 1_000
    assert f"--maximum-event-age-in-seconds {age} " in BY_HAND
    assert f"--maximum-retry-attempts {tasks.MAXIMUM_RETRY_ATTEMPTS}\n" in BY_HAND
    assert (
        f"{tasks.PENDING_SECONDS} s after it was made: Lambda keeps its event for {age} s" in LIFE
    )
    assert f"and {margin} s are added" in LIFE
    assert f"at the claim ({tasks.MAX_FUNCTION_SECONDS} s at most) + {margin} s" in LIFE
    assert f"at the latest {tasks.PENDING_SECONDS // 60} minutes after it was created" in README
    assert f"over {tasks.MAX_INLINE_ANSWER_BYTES // kilobyte} KB is kept in chunks" in LIFE
    assert f"An answer over {tasks.MAX_ANSWER_BYTES / 1e6} MB, or one" in LIFE
    lines, size = tasks.MAX_AGENT_EVENTS, tasks.MAX_AGENT_EVENT_BYTES // kilobyte
    assert f"takes up to {lines} lines and {size} KB" in LIFE
    assert f"1 to {tasks.MAX_DESCRIPTION_CHARACTERS:,} characters" in FRONTEND
    assert f"1 to {api_requests.MAX_LIMIT}, and {api_requests.DEFAULT_LIMIT} by default" in FRONTEND
    assert lambda_function.POLLING == ((10, 1), (60, 2), (300, 5))
    assert "1 at first, 2 after 10 s, 5 after a minute, 10 after five" in FRONTEND
    assert f"still pending after {lambda_function.REDISPATCH_SECONDS} s" in FRONTEND
