"""What MiniStack's CloudFormation leaves out and a local run needs, set right by the service's calls.

Nothing else in the project knows of these gaps. tests/local/test_ministack_gaps.py has a test for
each, which fails once MiniStack has mended it: then its part here goes.

MiniStack also ignores point-in-time recovery, time to live, reserved concurrency and throttling, and
makes a new table over one that is there. No local run needs those: cfn-lint holds the template.
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
