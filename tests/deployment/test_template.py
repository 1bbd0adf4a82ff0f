"""What template.yaml says: AWS's own schemas hold it, and it agrees with the code and the policies."""

import json
import re
from typing import Any

import pytest
from cfnlint.api import ManualArgs, lint
from cfnlint.decode import cfn_yaml

import lambda_function
import watcher_lambda
from simulation.watching import LOOK_SECONDS
from tests.deployment.conftest import ARN, ROOT
from valro import dynamodb_items, tasks

FILE = ROOT / "template.yaml"
# CloudFormation takes no longer template with a request.
MOST_BYTES = 51_200
# What a stack of SEED's names resolves to, in any region and account, with any agent.
NAMES = {
    "AgentRuntimeArn": "arn:aws:bedrock-agentcore:*:*:runtime/*",
    "Table.Arn": "arn:aws:dynamodb:*:*:table/valro-tasks",
    "WorkerFunction.Arn": "arn:aws:lambda:*:*:function:valro-worker",
    "ApiLogGroup.Arn": "arn:aws:logs:*:*:log-group:/aws/lambda/valro-backend:*",
    "WorkerLogGroup.Arn": "arn:aws:logs:*:*:log-group:/aws/lambda/valro-worker:*",
}


def read_template() -> dict[str, Any]:
    """Returns the template with its short functions written out, as {"Fn::GetAtt": …}."""
    template: dict[str, Any] = json.loads(json.dumps(cfn_yaml.load(str(FILE))))
    return template


TEMPLATE = read_template()
PARAMETERS = TEMPLATE["Parameters"]
RESOURCES = {name: each for name, each in TEMPLATE["Resources"].items() if "ForEach" not in name}


def resolved(value: Any) -> Any:
    """Returns a policy's value with every reference replaced by what NAMES says."""
    if isinstance(value, list):
        return [resolved(each) for each in value]
    if not isinstance(value, dict):
        return value
    if "Ref" in value:
        return NAMES[value["Ref"]]
    if "Fn::GetAtt" in value:
        return NAMES[".".join(value["Fn::GetAtt"])]
    if "Fn::Sub" in value:
        return re.sub(r"\$\{([\w.]+)\}", lambda match: NAMES[match[1]], value["Fn::Sub"])
    return {key: resolved(each) for key, each in value.items()}


def test_cfn_lint_finds_nothing():
    assert [str(each) for each in lint(FILE.read_text(), config=ManualArgs())] == []
    assert FILE.stat().st_size < MOST_BYTES


def test_the_table_is_the_one_that_the_store_defines():
    table = RESOURCES["Table"]["Properties"]

    definition = dynamodb_items.TABLE_DEFINITION
    assert {key: table[key] for key in definition} == definition
    assert table["TimeToLiveSpecification"] == {"AttributeName": "expires_at", "Enabled": True}
    assert table["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}
    assert RESOURCES["Table"]["DeletionPolicy"] == "RetainExceptOnCreate"
    assert RESOURCES["Table"]["UpdateReplacePolicy"] == "Retain"


def test_the_numbers_are_those_that_the_deadlines_count_on():
    events = RESOURCES["WorkerEvents"]["Properties"]

    assert events["MaximumEventAgeInSeconds"] == tasks.MAXIMUM_EVENT_AGE_SECONDS
    assert events["MaximumRetryAttempts"] == tasks.MAXIMUM_RETRY_ATTEMPTS
    assert PARAMETERS["WorkerTimeout"]["MaxValue"] == tasks.MAX_FUNCTION_SECONDS
    api = RESOURCES["ApiFunction"]["Properties"]
    assert RESOURCES["Integration"]["Properties"]["TimeoutInMillis"] == api["Timeout"] * 1000


def test_the_gateway_allows_and_exposes_the_headers_that_the_function_does():
    cors = RESOURCES["Api"]["Properties"]["CorsConfiguration"]
    answer = lambda_function.lambda_handler({"httpMethod": "OPTIONS", "path": "/tasks"}, None)
    headers = {name.lower(): value.lower() for name, value in answer["headers"].items()}

    def listed(header: str) -> set[str]:
        return set(re.split(r", ?", headers[f"access-control-{header}"]))

    # To a browser, * is every header but authorization, which only an authorizer reads.
    condition, with_tokens, without = cors["AllowHeaders"]["Fn::If"]
    assert (condition, without) == ("HasJwt", ["*"])
    comma, (names, _) = with_tokens["Fn::Split"][0], with_tokens["Fn::Split"][1]["Fn::Sub"]
    assert listed("allow-headers") == {*names.removesuffix("${More}").split(comma), *without}
    assert set(cors["ExposeHeaders"]) == listed("expose-headers")
    assert {method.lower() for method in cors["AllowMethods"]} >= listed("allow-methods")


@pytest.mark.parametrize(
    "role, file", [("ApiRole", "iam-policy.json"), ("WorkerRole", "worker-iam-policy.json")]
)
def test_the_policies_are_those_of_the_files(role: str, file: str):
    (policy,) = RESOURCES[role]["Properties"]["Policies"]
    document = json.loads((ROOT / file).read_text())
    # Only a function that was made by hand has to make its own log group.
    logs = document["Statement"][-1]["Action"]
    assert logs.pop(0) == "logs:CreateLogGroup"

    assert resolved(policy["PolicyDocument"]) == document


def test_only_lambda_may_take_the_roles():
    for name in ("Api", "Worker", "Watcher"):
        role = RESOURCES[f"{name}Role"]["Properties"]["AssumeRolePolicyDocument"]
        (statement,) = role["Statement"]
        assert statement["Principal"] == {"Service": "lambda.amazonaws.com"}


def test_the_metric_filters_count_outcomes_that_the_functions_log():
    patterns = " ".join(each["Pattern"] for each in TEMPLATE["Mappings"]["TaskAlarms"].values())
    code = "".join(path.read_text() for path in (*ROOT.glob("*.py"), *ROOT.glob("valro/**/*.py")))

    outcomes = set(re.findall(r'"(\w+)"', patterns))
    assert outcomes == {"error", "lost", "expired", "dispatch_failed"}
    assert {each for each in outcomes if f'"{each}"' not in code} == set()


def test_every_alarm_tells_when_it_begins_and_when_it_is_over():
    alarms = re.findall(
        r"Type: AWS::CloudWatch::Alarm\n.*?\n\n", f"{FILE.read_text()}\n\n", re.DOTALL
    )
    assert len(alarms) == 5
    for alarm in alarms:
        assert re.search(r"\bAlarmActions: \[!Ref AlarmTopicArn\]", alarm), alarm
        assert re.search(r"\bOKActions: \[!Ref AlarmTopicArn\]", alarm), alarm


def dashboard() -> list[dict[str, Any]]:
    """Returns the dashboard's widgets, with names in the place of what they refer to."""
    body = RESOURCES["TaskDashboard"]["Properties"]["DashboardBody"]["Fn::Sub"]
    widgets: list[dict[str, Any]] = json.loads(re.sub(r"\$\{([\w:]+)\}", r"<\1>", body))["widgets"]
    return [each["properties"] for each in widgets]


def test_the_dashboard_is_of_this_stack_in_this_region_whatever_their_names():
    for widget in dashboard():
        names = set(re.findall(r"<([\w:]+)>", json.dumps(widget)))
        assert {"AWS::Region"} < names <= {"AWS::Region"} | RESOURCES.keys()
        assert "valro" not in json.dumps(widget)
    # An account has one list of dashboards for all of its regions.
    name = RESOURCES["TaskDashboard"]["Properties"]["DashboardName"]
    assert name == {"Fn::Sub": "${NamePrefix}-${AWS::Region}"}


def test_the_watcher_looks_often_enough_and_at_nothing_but_beginnings_and_ends():
    function, queue = (RESOURCES[name]["Properties"] for name in ("WatcherFunction", "WatchQueue"))
    # A task that has just not been overdue is looked at again within the promised 2 minutes. AWS
    # wants a message to be invisible for six times the function's time.
    assert queue["DelaySeconds"] == queue["VisibilityTimeout"] == LOOK_SECONDS <= 120 - 2 * 15
    assert queue["VisibilityTimeout"] >= 6 * function["Timeout"]
    assert function["Timeout"] > watcher_lambda.CALL_SECONDS
    assert "RedrivePolicy" not in queue
    begins, ends = (
        json.loads(each["Pattern"])
        for each in RESOURCES["WatcherStream"]["Properties"]["FilterCriteria"]["Filters"]
    )
    final = sorted(tasks.FINAL_STATUSES)
    assert begins == {"dynamodb": {"NewImage": {"status": {"S": ["pending"]}}}}
    assert ends["dynamodb"]["NewImage"] == {"status": {"S": final}}
    assert ends["dynamodb"]["OldImage"] == {"status": {"S": [{"anything-but": final}]}}
    for name in ("WatcherStream", "WatcherTimer"):
        reported = RESOURCES[name]["Properties"]["FunctionResponseTypes"]
        assert reported == ["ReportBatchItemFailures"]


def test_every_log_and_every_role_can_be_given_what_an_operator_must_have():
    groups = [each for each in RESOURCES.values() if each["Type"] == "AWS::Logs::LogGroup"]
    roles = [each for each in RESOURCES.values() if each["Type"] == "AWS::IAM::Role"]
    assert (len(groups), len(roles)) == (3, 3)
    for resource, name, parameter in (
        *[(group, "KmsKeyId", "LogKmsKeyArn") for group in groups],
        *[(role, "PermissionsBoundary", "PermissionsBoundary") for role in roles],
    ):
        assert resource["Properties"][name]["Fn::If"][1] == {"Ref": parameter}
    access = RESOURCES["Stage"]["Properties"]["AccessLogSettings"]["Fn::If"][1]["Format"]
    assert {"requestId", "status", "ip"} <= json.loads(access).keys()


def test_every_parameter_is_explained_and_bounded_from_its_first_character_to_the_last():
    for name, parameter in PARAMETERS.items():
        assert parameter["Description"], name
        is_free = {"AllowedPattern", "AllowedValues", "MinValue"}.isdisjoint(parameter)
        assert is_free == (name in {"CodeBucket", "ApiCodeKey", "WorkerCodeKey"}), name
        pattern = parameter.get("AllowedPattern", "^.*$")
        assert re.fullmatch(r"\^.*\$", pattern), name
        assert re.fullmatch(pattern, str(parameter.get("Default", ""))) or name == "AgentRuntimeArn"


def test_an_arn_of_another_shape_is_no_agents():
    pattern = PARAMETERS["AgentRuntimeArn"]["AllowedPattern"]

    assert re.fullmatch(pattern, ARN)
    for right, wrong in (
        ("-AbCdEf1234", ""),
        ("123456789012", "12345678901"),
        ("bedrock-agentcore", "lambda"),
        ("my_agent-AbCdEf1234", "*"),
        ("Ef1234", "Ef1234/../*"),
    ):
        assert not re.fullmatch(pattern, ARN.replace(right, wrong)), wrong
