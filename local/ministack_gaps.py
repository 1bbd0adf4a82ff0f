"""MiniStack, with what its CloudFormation gets wrong and a local run needs set right.

tests/local/test_ministack_gaps.py has a test for each of them, which fails once MiniStack has mended
it: then its part here goes. Other gaps need nothing here, since no local run needs what they leave
out, and cfn-lint holds the template: point-in-time recovery, time to live, reserved concurrency and
throttling are ignored; a table that is there is overwritten; a new function needs no code and a
permission no function; events name resources that do not change.
"""

import asyncio
import resource
import sys
from collections.abc import Callable
from typing import Any

from hypercorn.asyncio import serve as serve_with_hypercorn
from hypercorn.config import Config
from ministack.app import app
from ministack.services import lambda_svc
from ministack.services.cloudformation import changesets, provisioners

from local.guard import local_only


def serve() -> None:
    """Serves MiniStack on a listening socket, whose number is the argument, to this machine only.

    Its own command binds a port by itself, so that of two that start at once one may be answered
    for by the other.
    """
    leave_out_what_is_not_made(vars(changesets))
    api = vars(provisioners)["_RESOURCE_HANDLERS"]["AWS::ApiGatewayV2::Api"]
    api |= {name: with_cors_of_the_service(api[name]) for name in ("create", "update")}
    functions = vars(lambda_svc)
    functions["_execute_function"] = with_failures_of_streams(functions["_execute_function"])
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    config = Config()
    config.bind = [f"fd://{sys.argv[1]}"]
    config.keep_alive_timeout = 75
    config.loglevel = "WARNING"
    guarded: Any = local_only(app)  # hypercorn's types are its own
    asyncio.run(serve_with_hypercorn(guarded, config))


def leave_out_what_is_not_made(inside: dict[str, Any]) -> None:
    """Leaves resources whose condition is false out of change sets.

    By itself MiniStack calls them added or modified, and so would the script on the first screen of
    a run.
    """
    resolve, evaluate = inside["_resolve_props_for_diff"], inside["_evaluate_conditions"]

    def resolve_what_is_made(template: Any, parameters: Any, *stack: Any) -> dict[str, Any]:
        conditions = evaluate(template or {}, parameters)
        resources = resolve(template, parameters, *stack).get("Resources", {})
        return {
            "Resources": {
                name: resource
                for name, resource in resources.items()
                if conditions.get(resource.get("Condition"), True)
            }
        }

    inside["_resolve_props_for_diff"] = resolve_what_is_made


def with_cors_of_the_service(handler: Callable[..., Any]) -> Callable[..., Any]:
    """Gives an API its template's CORS configuration in the service's case, allowOrigins.

    MiniStack keeps it in CloudFormation's, AllowOrigins, where its gateway does not look: every
    preflight is refused, and no page can call the API.
    """

    def handle(*arguments: Any) -> Any:
        return handler(*map(in_the_services_case, arguments))

    def in_the_services_case(argument: Any) -> Any:
        if not isinstance(argument, dict) or "CorsConfiguration" not in argument:
            return argument
        cors = argument["CorsConfiguration"].items()
        named = {name[0].lower() + name[1:]: value for name, value in cors}
        return argument | {"CorsConfiguration": named}

    return handle


def with_failures_of_streams(execute: Callable[..., Any]) -> Callable[..., Any]:
    """Brings a table's changes again, from the first one that a function reports as failed.

    MiniStack looks at what a function reports of a queue only, and the failed changes are lost.
    """
    handled: set[str] = set()

    def execute_rest(function: Any, event: Any, *others: Any) -> Any:
        records = event.get("Records") if isinstance(event, dict) else None
        if not records or records[0].get("eventSource") != "aws:dynamodb":
            return execute(function, event, *others)
        numbers = [record["dynamodb"]["SequenceNumber"] for record in records]
        rest = [one for one, number in zip(records, numbers, strict=True) if number not in handled]
        result = execute(function, {"Records": rest}, *others)
        body = result.get("body")
        failed = body.get("batchItemFailures") if isinstance(body, dict) else None
        if not failed:
            return result
        handled.update(numbers[: numbers.index(failed[0]["itemIdentifier"])])
        # After an error it brings the same changes again, a second later.
        return result | {"error": True}

    return execute_rest
