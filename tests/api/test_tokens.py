"""What --jwt-issuer and --jwt-audience make of the API: a local issuer, two users, real tokens."""

import functools
import json
import time
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import RSAKey

from local.aws import Answer, Api, local_stack
from tests.conftest import eventually
from tests.servers import serving

AUDIENCE = "valro-web"
DESCRIPTION = "Find me a landscaper in Charlotte under $300"

pytestmark = pytest.mark.e2e


class Issuer:
    """An OpenID Connect issuer with one key, which it publishes in a folder."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        self.key = RSAKey.generate_key(2048, {"kid": "one", "use": "sig", "alg": "RS256"})
        documents: dict[str, Any] = {
            ".well-known/openid-configuration": {"issuer": url, "jwks_uri": f"{url}/keys"},
            "keys": {"keys": [self.key.as_dict(private=False)]},
        }
        (folder / ".well-known").mkdir()
        for path, document in documents.items():
            (folder / path).write_text(json.dumps(document))

    def token(self, subject: str, **claims: Any) -> str:
        """Signs a token that is good for ten minutes, unless the claims say otherwise."""
        now = int(time.time())
        content = {"iss": self.url, "aud": AUDIENCE, "iat": now, "exp": now + 600, "sub": subject}
        return jwt.encode({"alg": "RS256", "kid": "one"}, content | claims, self.key)


@pytest.fixture(scope="module")
def issuer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Issuer]:
    folder = tmp_path_factory.mktemp("issuer")
    files = functools.partial(SimpleHTTPRequestHandler, directory=folder)
    with serving(ThreadingHTTPServer(("127.0.0.1", 0), files)) as address:
        yield Issuer(address, folder)


@pytest.fixture(scope="module")
def api(issuer: Issuer) -> Iterator[Api]:
    """The backend itself, deployed by the script with an authorizer of the issuer."""
    with local_stack() as local:
        audiences = f"{AUDIENCE},other"
        local.deploy(arguments=("--jwt-issuer", issuer.url, "--jwt-audience", audiences))
        assert "The API answers, and asks for a token." in local.deploy_output
        assert "public" not in local.deploy_output
        yield local.api


def ask(api: Api, token: str, method: str, path: str, body: Any = None) -> Answer:
    """Sends a request with a token."""
    return api.request(method, path, body, {"Authorization": f"Bearer {token}"})


def test_no_route_answers_without_a_token_of_this_issuer_for_this_audience(
    api: Api, issuer: Issuer
):
    body = {"description": DESCRIPTION}
    for method, path in (("POST", "/tasks"), ("GET", "/tasks"), ("GET", "/tasks/x")):
        assert api.request(method, path, body).status == 401
    for wrong in ({"aud": "somebody-else"}, {"iss": "https://login.example.com"}):
        assert ask(api, issuer.token("ann", **wrong), "GET", "/tasks").status == 401
    assert ask(api, issuer.token("ann"), "GET", "/tasks").status == 200


def test_two_users_see_only_their_own_tasks(api: Api, issuer: Issuer):
    bea, cem = issuer.token("bea"), issuer.token("cem", aud="other")
    mine = ask(api, bea, "POST", "/tasks", {"description": DESCRIPTION})
    assert mine.status == 202, mine.body
    task_id = mine.json()["id"]
    theirs = ask(api, cem, "POST", "/tasks", {"description": "Find me a plumber in Raleigh"})
    assert theirs.status == 202

    task = eventually(
        lambda: ask(api, bea, "GET", f"/tasks/{task_id}").json(),
        lambda task: task["status"] in {"completed", "error"},
    )
    assert task["status"] == "completed", task
    assert "owner" not in task

    stranger = ask(api, cem, "GET", f"/tasks/{task_id}")
    assert (stranger.status, stranger.json()["code"]) == (404, "task_not_found")
    lists = [
        {each["id"] for each in ask(api, token, "GET", "/tasks").json()} for token in (bea, cem)
    ]
    assert lists == [{task_id}, {theirs.json()["id"]}]


def test_a_browser_may_ask_without_a_token_what_it_may_send(api: Api):
    asked = {"Method": "POST", "Headers": "authorization,content-type"}
    headers = {f"Access-Control-Request-{name}": value for name, value in asked.items()}

    answer = api.request("OPTIONS", "/tasks", headers={"Origin": "http://localhost:5173"} | headers)

    assert answer.status in {200, 204}
    assert "authorization" in answer.headers["Access-Control-Allow-Headers"].lower()
