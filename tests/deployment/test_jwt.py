"""What --jwt-issuer and --jwt-audience make of the API: a local issuer, two users, real tokens."""

import http.server
import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import RSAKey

from local import ministack_gaps
from local.aws import AGENT_RUNTIME_ARN, Answer, Api, LocalStack
from tests.conftest import eventually
from tests.deployment.operators import ROOT, Stack, building_in_turn, fast_aws_server

AUDIENCE = "valro-web"
DESCRIPTION = "Find me a landscaper in Charlotte under $300"

pytestmark = pytest.mark.e2e


class Issuer:
    """An OpenID Connect issuer with one key, which it publishes."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.key = RSAKey.generate_key(2048, {"kid": "one", "use": "sig", "alg": "RS256"})
        self.documents = {
            "/.well-known/openid-configuration": {
                "issuer": url,
                "jwks_uri": f"{url}/keys",
            },
            "/keys": {"keys": [self.key.as_dict(private=False)]},
        }

    def token(self, subject: str | None, *, key: RSAKey | None = None, **claims: Any) -> str:
        """Signs a token that is good for ten minutes, unless the claims say otherwise."""
        now = int(time.time())
        content = {"iss": self.url, "aud": AUDIENCE, "iat": now, "exp": now + 600, **claims}
        if subject is not None:
            content["sub"] = subject
        return jwt.encode({"alg": "RS256", "kid": "one"}, content, key or self.key)


@pytest.fixture(scope="module")
def issuer() -> Iterator[Issuer]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            document = made.documents.get(self.path)
            self.send_response(200 if document else 404)
            self.end_headers()
            self.wfile.write(json.dumps(document).encode())

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the base's name
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made = Issuer(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield made
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="module")
def api(ministack: LocalStack, issuer: Issuer) -> Iterator[Api]:
    """The backend itself, deployed by the script with an authorizer of the issuer."""
    with fast_aws_server() as port:
        stack = Stack(ministack, port, ROOT, "tokens")
        with building_in_turn():
            run = stack.run(
                *("--jwt-issuer", issuer.url, "--jwt-audience", f"{AUDIENCE},other"),
                AGENT_RUNTIME_ARN=AGENT_RUNTIME_ARN,
            )
        assert run.code == 0, run.said
        assert "The API answers, and asks for a token." in run.said
        assert "public" not in run.said
        api_id = stack.api()["ApiId"]
        ministack_gaps.mend(ministack.endpoint, api_id)
        yield Api(ministack.port, api_id)


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
    def post(subject: str) -> str:
        headers = {"Authorization": f"Bearer {issuer.token(subject)}", "Idempotency-Key": "k1"}
        answer = api.request("POST", "/tasks", {"description": DESCRIPTION}, headers)
        assert answer.status == 202, answer.body
        return str(answer.json()["id"])

    assert post("dot") == post("dot") != post("eve")


def test_a_browser_may_ask_without_a_token_what_it_may_send(api: Api):
    answer = api.request(
        "OPTIONS",
        "/tasks",
        headers={
            "Origin": "https://app.example.com",
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization,content-type",
        },
    )

    assert answer.status in {200, 204}
    assert "authorization" in answer.headers["Access-Control-Allow-Headers"].lower()
