"""A client for the Valro API: hand a household task to an AI agent, then watch its progress.

    from valro_client import ValroClient

    with ValroClient("https://….amazonaws.com") as valro:
        task = valro.run_task("Find me a landscaper in Charlotte under $300")
        print(task.get("agent_response") or task.get("error_message"))

The command `valro` does the same from a shell.
"""

import importlib
from typing import TYPE_CHECKING, Any

from .errors import AnswerError, ApiError, CallTimeoutError, NetworkError, ValroError
from .types import (
    Accepted,
    Email,
    Event,
    Interrupt,
    Quote,
    Status,
    Task,
    TaskPage,
    Vendor,
    is_final,
)

if TYPE_CHECKING:
    from .client import ValroClient, make_idempotency_key

__all__ = [
    "Accepted",
    "AnswerError",
    "ApiError",
    "CallTimeoutError",
    "Email",
    "Event",
    "Interrupt",
    "NetworkError",
    "Quote",
    "Status",
    "Task",
    "TaskPage",
    "ValroClient",
    "ValroError",
    "Vendor",
    "is_final",
    "make_idempotency_key",
]


def __getattr__(name: str) -> Any:
    """Imports what needs httpx when it is first asked for: `valro --help` and types need none."""
    if name not in {"ValroClient", "make_idempotency_key"}:
        raise AttributeError(name)
    return getattr(importlib.import_module(".client", __name__), name)
