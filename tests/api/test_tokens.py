"""What --jwt-issuer and --jwt-audience make of the API: a local issuer, two users, real tokens."""

import functools
import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import RSAKey

from local.aws import Answer, Api, local_stack
from tests.conftest import eventually

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

    def token(self, subject: str | None, *, key: RSAKey | None = None, **claims: Any) -> str:
        """Signs a token that is good for ten minutes, unless the claims say otherwise."""
        now = int(time.time())
        content = {"iss": self.url, "aud": AUDIENCE, "iat": now, "exp": now + 600, **claims}
        if subject is not None:
            content["sub"] = subject
        return jwt.encode({"alg": "RS256", "kid": "one"}, content, key or self.key)


@pytest.fixture(scope="module")
def issuer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Issuer]:
    folder = tmp_path_factory.mktemp("issuer")
    handler = functools.partial(SimpleHTTPRequestHandler, directory=folder)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,)).start()
        yield Issuer(f"http://127.0.0.1:{server.server_port}", folder)
        server.shutdown()


@pytest.fixture(scope="module")
def api(issuer: Issuer) -> Iterator[Api]:
    """The backend itself, deployed by the script with an authorizer of the issuer."""
    with local_stack() as local:
        audiences = f"{AUDIENCE},other"
        local.deploy(arguments=("--jwt-issuer", issuer.url, "--jwt-audience", audiences))
        assert "The API answers, and asks for a token." in local.deploy_output
        assert "public" not in local.deploy_output
        yield local.api


@pytest.fixture
def ask(api: Api) -> Callable[..., Answer]:
    """Sends a request with a token."""

    def send(token: str, method: str, path: str, body: Any = None) -> Answer:
        return api.request(method, path, body, {"Authorization": f"Bearer {token}"})

    return send


@pytest.mark.parametrize(
    "method, path", [("POST", "/tasks"), ("GET", "/tasks"), ("GET", "/tasks/x")]
)
def test_no_route_answers_without_a_token(api: Api, method: str, path: str):
    assert api.request(method, path, {"description": DESCRIPTION}).status == 401


@pytest.mark.parametrize(
    "flaw",
    ["not a token", "expired", "of another audience", "of another issuer", "signed by another"],
)
def test_a_token_that_is_not_good_is_refused(ask: Callable[..., Answer], issuer: Issuer, flaw: str):
    stranger = RSAKey.generate_key(2048, {"kid": "one"})
    token = {
        "not a token": "gibberish",
        "expired": issuer.token("ann", exp=int(time.time()) - 60),
        "of another audience": issuer.token("ann", aud="somebody-else"),
        "of another issuer": issuer.token("ann", iss="https://login.example.com"),
        "signed by another": issuer.token("ann", key=stranger),
    }[flaw]

    answer = ask(token, "POST", "/tasks", {"description": DESCRIPTION})

    assert answer.status == 401
    assert ask(issuer.token("ann"), "GET", "/tasks").status == 200


def test_a_token_without_a_subject_is_forbidden(ask: Callable[..., Answer], issuer: Issuer):
    answer = ask(issuer.token(None), "GET", "/tasks")

    assert answer.status == 403
    assert "error" in answer.json()


def test_two_users_see_only_their_own_tasks(ask: Callable[..., Answer], issuer: Issuer):
    bea, cem = issuer.token("bea"), issuer.token("cem", aud="other")
    mine = ask(bea, "POST", "/tasks", {"description": DESCRIPTION})
    assert mine.status == 202, mine.body
    task_id = mine.json()["id"]
    theirs = ask(cem, "POST", "/tasks", {"description": "Find me a plumber in Raleigh"})
    assert theirs.status == 202

    task = eventually(
        lambda: ask(bea, "GET", f"/tasks/{task_id}").json(),
        lambda task: task["status"] in {"completed", "error"},
        seconds=30,
    )
    assert task["status"] == "completed", task
    assert "owner" not in task

    stranger = ask(cem, "GET", f"/tasks/{task_id}")
    unknown = ask(cem, "GET", "/tasks/no-such-task")
    assert (stranger.status, unknown.status) == (404, 404)
    assert stranger.json()["code"] == unknown.json()["code"]
    lists = {
        name: {each["id"] for each in ask(token, "GET", "/tasks").json()}
        for name, token in {"bea": bea, "cem": cem}.items()
    }
    assert lists == {"bea": {task_id}, "cem": {theirs.json()["id"]}}


def test_a_key_of_one_user_is_not_a_key_of_another(api: Api, issuer: Issuer):
    ids = []
    for subject in ("dot", "dot", "eve"):
        headers = {"Authorization": f"Bearer {issuer.token(subject)}", "Idempotency-Key": "k1"}
        answer = api.request("POST", "/tasks", {"description": DESCRIPTION}, headers)
        ids.append(answer.json()["id"])

    assert ids[0] == ids[1] != ids[2]


def test_a_browser_may_ask_without_a_token_what_it_may_send(api: Api):
    asked = {"Method": "POST", "Headers": "authorization,content-type"}
    headers = {f"Access-Control-Request-{name}": value for name, value in asked.items()}

    answer = api.request("OPTIONS", "/tasks", headers={"Origin": "http://localhost:5173"} | headers)

    assert answer.status in {200, 204}
    assert "authorization" in answer.headers["Access-Control-Allow-Headers"].lower()
