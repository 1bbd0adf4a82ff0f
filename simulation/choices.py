"""Where chance comes from: a list of small numbers, in which 0 always means the simplest thing."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")


class Choices:
    """Makes the choices of one schedule and keeps them, so that they can be made again.

    They come from ``seed``, or from a ``script`` of earlier ones, after whose end each is 0.
    """

    def __init__(self, seed: int | None = None, script: Sequence[int] = ()) -> None:
        self.made: list[int] = []
        self._random = random.Random(seed).random if seed is not None else None
        self._script = iter(script)

    def below(self, limit: int) -> int:
        """A number from 0 to ``limit - 1``."""
        if self._random:
            value = int(self._random() * limit)
        else:
            value = min(next(self._script, 0), limit - 1)
        self.made.append(value)
        return value

    def pick(self, options: Sequence[T]) -> T:
        """One of ``options``, the first of which is the simplest."""
        return options[self.below(len(options))]

    def chance(self, per_mille: int) -> bool:
        """Whether something happens that happens ``per_mille`` times in a thousand."""
        return per_mille > 0 and self.below(1000) >= 1000 - per_mille


class Shrinker:
    """Makes a failing script shorter and its numbers smaller, as long as it still ``fails``."""

    def __init__(
        self, script: list[int], fails: Callable[[list[int]], bool], seconds: float
    ) -> None:
        self.script = script
        self.fails = fails
        self.end = time.monotonic() + seconds

    def run(self) -> list[int]:
        """The simplest script found in the time there is."""
        before: list[int] = []
        while self.script != before and time.monotonic() < self.end:
            before = self.script
            while self.script and self._try(self.script[: len(self.script) // 2]):
                pass
            size = max(len(self.script) // 2, 1)
            while size:
                self._remove_blocks(size)
                size //= 2
            self._lower_numbers()
        while self.script and self.script[-1] == 0:
            self.script = self.script[:-1]
        return self.script

    def _try(self, candidate: list[int]) -> bool:
        if time.monotonic() < self.end and candidate != self.script and self.fails(candidate):
            self.script = candidate
            return True
        return False

    def _remove_blocks(self, size: int) -> None:
        start = 0
        while start < len(self.script):
            head, block = self.script[:start], self.script[start : start + size]
            tail = self.script[start + size :]
            if not self._try(head + tail):
                if any(block):
                    self._try([*head, *(0 for _ in block), *tail])
                start += size

    def _lower_numbers(self) -> None:
        for index in range(len(self.script)):  # whose length no longer changes
            for lower in (0, self.script[index] // 2, self.script[index] - 1):
                if 0 <= lower < self.script[index]:
                    self._try([*self.script[:index], lower, *self.script[index + 1 :]])


def shrink(
    script: list[int], fails: Callable[[list[int]], bool], *, seconds: float = 20.0
) -> list[int]:
    """The shortest and simplest script found, within ``seconds``, that still ``fails``."""
    return Shrinker(script, fails, seconds).run()
