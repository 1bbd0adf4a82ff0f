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


def shrink(
    script: list[int], fails: Callable[[list[int]], bool], *, seconds: float = 20.0
) -> list[int]:
    """The shortest and simplest script found, within ``seconds``, that still ``fails``."""
    end = time.monotonic() + seconds

    def better(candidate: list[int]) -> bool:
        nonlocal script
        if time.monotonic() < end and candidate != script and fails(candidate):
            script = candidate
            return True
        return False

    before: list[int] = []
    while script != before and time.monotonic() < end:
        before = script
        while script and better(script[: len(script) // 2]):
            pass
        size = max(len(script) // 2, 1)
        while size:
            start = 0
            while start < len(script):
                block = script[start : start + size]
                shorter = script[:start] + script[start + size :]
                zeroed = script[:start] + [0] * len(block) + script[start + size :]
                if not better(shorter) and not (any(block) and better(zeroed)):
                    start += size
                elif script == zeroed:
                    start += size
            size //= 2
        for index in range(len(script)):
            while index < len(script) and script[index]:
                if not better([*script[:index], script[index] // 2, *script[index + 1 :]]):
                    break
    while script and script[-1] == 0:
        script = script[:-1]
    return script
