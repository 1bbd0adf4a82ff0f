"""The README's own commands, pasted in order into a shell of an operator with a local AWS."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import tasks
from local.aws import ROOT, LocalStack, local_stack
from tests.conftest import eventually

README = (ROOT / "README.md").read_text()
BLOCK = re.compile(r"<!-- test: (?P<name>[^>]+) -->\n```bash\n(?P<code>.*?)```", re.DOTALL)
AWS_V2 = os.environ.get("VALRO_AWS_V2", "")


def blocks(name: str) -> str:
    """The commands of the README's blocks of this name, as one would paste them."""
    found = [match["code"] for match in BLOCK.finditer(README) if match["name"] == name]
    assert found, f"The README has no block named {name!r}"
    return "\n".join(found)


class Operator:
    """Somebody at a shell, in a copy of the project, with one AWS CLI."""

    def __init__(self, folder: Path, stack: LocalStack, cli: str) -> None:
        self.folder = folder
        self.stack = stack
        self.is_version_1 = cli == "v1"
        self.environment = stack.environment()
        if not self.is_version_1:
            path = f"{Path(AWS_V2).parent}{os.pathsep}{self.environment['PATH']}"
            self.environment["PATH"] = path

    def paste(self, name: str, **variables: str) -> str:
        """Pastes the blocks of a name; fails unless every command succeeds, returns what is said."""
        code = blocks(name)
        # The lines that are the reader's to edit.
        code = re.sub(r"^export AGENT_RUNTIME_ARN=.*", "", code, flags=re.MULTILINE)
        code = code.replace("/tmp/", f"{self.folder}/")
        if self.is_version_1:
            # As the README says for version 1.
            code = code.replace("  --cli-binary-format raw-in-base64-out \\\n", "")
            code = re.sub(
                r"aws logs tail (\S+) --since 1h",
                r"aws logs filter-log-events --log-group-name \1",
                code,
            )
        run = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", code],
            cwd=self.folder / "project",
            env=self.environment | variables,
            capture_output=True,
            text=True,
            timeout=180,
        )
        assert run.returncode == 0, f"{code}\n{run.stdout}\n{run.stderr}"
        return run.stdout


def versions() -> list[str]:
    return ["v1", *(["v2"] if AWS_V2 else [])]


@pytest.fixture(params=versions(), scope="module")
def operator(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Operator]:
    """A copy of the project beside an empty account that enforces policies."""
    missing = [tool for tool in ("curl", "jq") if shutil.which(tool) is None]
    if missing:
        pytest.skip(
            f"The README calls {' and '.join(missing)}: install it with your package manager"
        )
    folder = tmp_path_factory.mktemp("operator")
    kept_out = shutil.ignore_patterns(".venv*", ".git", "build", "node_modules", "__pycache__")
    shutil.copytree(ROOT, folder / "project", ignore=kept_out)
    with local_stack(authorization=True) as stack:
        operator = Operator(folder, stack, request.param)
        operator.environment["VALRO_SDK_CACHE"] = str(ROOT / "build" / "sdk")
        yield operator


@pytest.mark.e2e
def test_pasting_the_manual_deployment_in_order_makes_an_api_that_runs_tasks(operator: Operator):
    url = operator.paste("deploy by hand").splitlines()[-1]
    assert url.endswith("/tasks")
    variables = {"API_URL": url.removesuffix("/tasks")}

    operator.paste("update by hand")

    listed = operator.paste("call directly")
    assert '"statusCode": 200' in listed
    assert '"outcome": "completed"' in listed

    assert '"description": "Find me a painter in Austin"' in operator.paste(
        "follow a task", **variables
    )
    assert "Agent completed task successfully" in operator.paste("look into the table")
    assert "Label" in operator.paste("metrics")
    assert "outcome" in eventually(
        lambda: operator.paste("logs"), lambda said: "outcome" in said, seconds=30
    )


@pytest.mark.e2e
def test_the_other_cli_is_tested_too():
    if not AWS_V2:
        pytest.skip(
            "AWS CLI v2 is not here: run .ci/install-aws-v2 build/aws-cli-v2, "
            "and set VALRO_AWS_V2 to the path that it prints"
        )
    assert versions() == ["v1", "v2"]


def test_the_readme_and_the_code_agree_on_the_deadlines():
    age, retries = (
        tasks.MAXIMUM_EVENT_AGE_SECONDS,
        tasks.MAXIMUM_RETRY_ATTEMPTS,
    )
    assert f"--maximum-event-age-in-seconds {age} " in README
    assert f"--maximum-retry-attempts {retries}\n" in README
    assert f"keeps its event for {age} s" in README
    assert f"{tasks.DEADLINE_MARGIN_SECONDS} s are added" in README
    assert f"until {tasks.PENDING_SECONDS // 60} minutes after it was made" in README


def test_every_file_that_the_readme_links_to_exists():
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)\)", README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_every_anchor_that_the_readme_links_to_is_a_heading():
    headings = {
        re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-")
        for heading in re.findall(r"^#+ (.+)$", README, re.MULTILINE)
    }
    assert set(re.findall(r"\]\(#([^)]+)\)", README)) <= headings
