"""What MiniStack's CloudFormation leaves out and a local run needs, set right by the service's calls.

tests/local/test_ministack_gaps.py has a test for each gap, which fails once MiniStack has mended it:
then its part here goes. The other gaps need nothing here, since no local run needs what they leave
out, and cfn-lint holds the template: point-in-time recovery, time to live, reserved concurrency and
throttling are ignored; a table that is there is overwritten; a new function needs no code and a
permission no function; change sets and events name resources that do not change.
"""

import json
from typing import Any

import botocore.session

from local import REGION


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
