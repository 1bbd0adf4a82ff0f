"""A client for the Valro API: hand a household task to an AI agent, then watch its progress.

    from valro_client import ValroClient

    with ValroClient("https://….amazonaws.com") as valro:
        task = valro.run_task("Find me a landscaper in Charlotte under $300")
        print(task.get("agent_response") or task.get("error_message"))

The command `valro` does the same from a shell.
"""

from .client import ValroClient, is_final, make_idempotency_key
from .errors import AnswerError, ApiError, CallTimeoutError, NetworkError, ValroError
from .types import Accepted, Event, Interrupt, Quote, Status, Task, TaskPage, Vendor

__all__ = [
    "Accepted",
    "AnswerError",
    "ApiError",
    "CallTimeoutError",
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
