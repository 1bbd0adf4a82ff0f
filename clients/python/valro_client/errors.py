"""What can go wrong between a program and the API."""

from collections.abc import Mapping
from typing import Any

MAX_RETRY_AFTER_SECONDS = 300
TEMPORARY_STATUSES = {408, 425, 429}
# Their statuses usually pass, but asking again gives these same answers.
LASTING_CODES = {"not_configured", "worker_unavailable"}


class ValroError(Exception):
    """All errors of the client.

    With its ``idempotency_key`` create_task can safely be repeated; by its ``request_id`` the
    operator finds the request in the logs.
    """

    idempotency_key: str | None = None
    request_id: str | None = None


class ApiError(ValroError):
    """An answer that is an error. As a text it is a sentence for a person."""

    def __init__(self, status: int, body: Any, headers: Mapping[str, str]) -> None:
        # The API's own errors are {error, code}, the gateway's are {message}.
        fields = body if isinstance(body, dict) else {}
        plain = " ".join(filter(None, [f"The API answered {status}", fields.get("message")]))
        super().__init__(fields.get("error") or f"{plain}.")
        self.status = status
        self.code: str | None = fields.get("code")
        self.task_id: str | None = fields.get("id")
        self.retry_after = seconds_of(headers)
        self.request_id = request_id_of(headers)

    @property
    def is_temporary(self) -> bool:
        """Whether the same request may be answered otherwise later: throttling and crashes pass."""
        if self.status < 500:
            return self.status in TEMPORARY_STATUSES
        return self.code not in LASTING_CODES


class NetworkError(ValroError):
    """No answer came; ``__cause__`` says why."""


class AnswerError(ValroError):
    """Something else than the API answered: a redirect, or what is not JSON."""

    def __init__(self, status: int, what: str, headers: Mapping[str, str]) -> None:
        super().__init__(f"The API's address is answered by {what}. Is it right?")
        self.status = status
        self.request_id = request_id_of(headers)


class CallTimeoutError(ValroError, TimeoutError):
    """The call's ``timeout`` is over."""


def seconds_of(headers: Mapping[str, str]) -> float | None:
    """The seconds of Retry-After, if it has some and they are sane."""
    text = headers.get("retry-after", "")
    return min(int(text), MAX_RETRY_AFTER_SECONDS) or None if text.isdecimal() else None


def request_id_of(headers: Mapping[str, str]) -> str | None:
    """The id by which the operator finds a request in the logs."""
    return headers.get("apigw-requestid") or headers.get("x-amzn-requestid")
