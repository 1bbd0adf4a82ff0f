"""What destroy-infrastructure.sh asks and calls, with a stub for `aws`.

What it leaves of a deployed stack is in test_reconcile.py.
"""

from pathlib import Path

import pytest

from tests.deployment.operators import Account

SCRIPT = "destroy-infrastructure.sh"

pytestmark = pytest.mark.e2e


@pytest.fixture
def account(tmp_path: Path) -> Account:
    """An account in which everything is deployed."""
    account = Account(tmp_path / "project")
    account.answer("apigatewayv2 get-apis", [{"ApiId": "a1", "ApiEndpoint": "http://x.test"}])
    account.answer("lambda get-function", {"Configuration": {}})
    account.answer("iam get-role", {"Role": {}})
    account.answer("iam get-role-policy", {"PolicyDocument": {}})
    account.answer("cloudwatch describe-alarms", [{"AlarmName": "valro-tasks-failed"}])
    account.answer("dynamodb describe-table", {"Table": {"ItemCount": 42}})
    account.answer(
        "logs describe-log-groups", "/aws/lambda/valro-backend\t30\n/aws/lambda/valro-worker\t30\n"
    )
    return account


def test_with_nobody_to_ask_it_needs_a_yes(account: Account):
    run = account.run(script=SCRIPT)

    assert run.code == 2
    assert "--yes" in run.said
    assert run.changes == []


@pytest.mark.parametrize("answer", ["", "n", "what?"])
def test_any_answer_but_yes_removes_nothing(account: Account, answer: str):
    code, screen = account.run_on_a_terminal(answer, script=SCRIPT)

    assert code == 1
    assert "In account 123456789012, region us-east-1:" in screen
    assert "Nothing was removed." in screen
    assert not [call for call in account.calls() if " delete-" in call.command]


def test_a_yes_removes_it(account: Account):
    code, screen = account.run_on_a_terminal("yes", script=SCRIPT)

    assert code == 0, screen
    assert "API valro-api: removed" in screen


def test_it_says_that_the_tasks_go_before_it_asks(account: Account):
    _, screen = account.run_on_a_terminal("n", "--delete-data", script=SCRIPT)

    assert "table valro-tasks WITH ALL ITS TASKS (about 42 items)" in screen


def test_what_uses_another_thing_goes_before_it(account: Account):
    run = account.run("--yes", "--delete-data", script=SCRIPT)

    assert run.code == 0, run.said
    order = run.changes
    assert order[0] == "apigatewayv2 delete-api"
    assert set(order[1:4]) == {"lambda delete-function", "cloudwatch delete-alarms"}
    assert order.count("lambda delete-function") == 2
    assert order[-1] == "dynamodb delete-table"
    for role in ("valro-lambda-role", "valro-worker-role"):
        assert [each for each in run.of(role) if " delete-" in each] == [
            "iam delete-role-policy",
            "iam delete-role",
        ]


def test_the_table_is_kept_unless_told_otherwise(account: Account):
    run = account.run("--yes", script=SCRIPT)

    assert "table valro-tasks: kept" in run.said
    assert "dynamodb delete-table" not in run.commands


def test_only_our_own_policy_is_taken_from_a_role(account: Account):
    account.answer(
        "iam delete-role",
        error="DeleteConflict: Cannot delete entity, must detach all policies first.",
    )

    run = account.run("--yes", script=SCRIPT)

    assert run.code == 1
    assert "something that this script did not make is attached" in run.said
    removed = [call for call in run.calls if call.command == "iam delete-role-policy"]
    assert {call.value("--policy-name") for call in removed} == {
        "ValroAPIPolicy",
        "ValroWorkerPolicy",
    }


def test_a_lookup_that_is_refused_removes_nothing(account: Account):
    account.rules.insert(
        0, {"command": "iam get-role", "error": "AccessDenied: not authorized", "times": 2}
    )

    run = account.run("--yes", script=SCRIPT)

    assert run.code == 1
    assert run.changes == []


@pytest.mark.parametrize("option", ["--name-prefix=a b", "--api-memory-size=512", "--nope"])
def test_wrong_options_call_nothing(account: Account, option: str):
    run = account.run("--yes", option, script=SCRIPT)

    assert run.code == 2
    assert run.calls == []
