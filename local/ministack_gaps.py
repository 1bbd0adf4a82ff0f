"""What MiniStack's CloudFormation gets wrong and a local run needs, set right.

tests/local/test_ministack_gaps.py has a test for each gap, which fails once MiniStack has mended it:
then its part here goes. The other gaps need nothing here, since no local run needs what they leave
out, and cfn-lint holds the template: point-in-time recovery, time to live, reserved concurrency and
throttling are ignored; a table that is there is overwritten; a new function needs no code and a
permission no function; events name resources that do not change.
"""

import asyncio
import json
import resource
import sys
from typing import Any

import botocore.session

from local import REGION
from local.guard import local_only


def serve() -> None:
    """Serves MiniStack on a listening socket, whose number is the argument, to this machine only.

    Its own command binds a port by itself, so that of two that start at once one may be answered
    for by the other. Change sets leave out resources whose condition is false: by itself it calls
    them added or modified, and so would the script on the first screen of a run.
    """
    # Imported here: whoever only starts it has no need of it.
    from hypercorn.asyncio import serve as serve_with_hypercorn  # noqa: PLC0415
    from hypercorn.config import Config  # noqa: PLC0415
    from ministack.app import app  # noqa: PLC0415
    from ministack.services.cloudformation import changesets  # noqa: PLC0415

    inside = vars(changesets)
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
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    config = Config()
    config.bind = [f"fd://{sys.argv[1]}"]
    config.keep_alive_timeout = 75
    config.loglevel = "WARNING"
    guarded: Any = local_only(app)  # hypercorn's types are its own
    asyncio.run(serve_with_hypercorn(guarded, config))


def mend(endpoint: str, api_id: str) -> None:
    """Gives the deployed API its template's CORS configuration again.

    MiniStack keeps it in CloudFormation's case, where its gateway does not look: every preflight is
    refused, and no page can call the API.
    """
    session = botocore.session.Session()
    session.set_credentials("test", "test")
    gateway = session.create_client("apigatewayv2", REGION, endpoint_url=endpoint)
    answers: list[dict[str, Any]] = []
    gateway.meta.events.register(
        "after-call.apigatewayv2.GetApi",
        lambda http_response, **_: answers.append(json.loads(http_response.content)),
    )
    gateway.get_api(ApiId=api_id)
    cors = answers[0].get("corsConfiguration") or {}
    if "AllowOrigins" in cors:
        gateway.update_api(ApiId=api_id, CorsConfiguration=cors)
