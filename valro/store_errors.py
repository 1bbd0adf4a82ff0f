"""What the task store refuses, as opposed to what DynamoDB fails at."""

from __future__ import annotations

from valro.tasks import Task


class StoreError(Exception):
    """Anything the store refuses, as opposed to what DynamoDB fails at."""


class TaskNotFound(StoreError):
    """No task has this id, or none that this owner may see."""

    def __init__(self, task_id: str) -> None:
        super().__init__(f"Task {task_id} not found")
        self.task_id = task_id


class TaskNotClaimable(StoreError):
    """Somebody else has the task, or it has ended; ``task`` is what was found."""

    def __init__(self, task: Task) -> None:
        super().__init__(f"Task {task['id']} is {task.get('status')}")
        self.task = task


class TaskNotFinal(StoreError):
    """The task has not ended yet."""


class AlreadyFollowed(StoreError):
    """Another task already follows this one, and its agent may have acted."""

    def __init__(self, task_id: str, follower: str) -> None:
        super().__init__(f"Task {task_id} is followed by {follower}")
        self.follower = follower


class NotAccepted(StoreError):
    """A report on a task that no agent has accepted."""


class ClaimLost(StoreError):
    """The task ended without this worker; ``task`` is what was found, None if it is gone."""

    def __init__(self, task_id: str, task: Task | None) -> None:
        super().__init__(f"Task {task_id} is {task.get('status') if task else 'gone'}")
        self.task = task


class CancelRequested(StoreError):
    """The task's cancellation was requested: nothing but its end may be written any more."""
