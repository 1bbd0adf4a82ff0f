"""Where chance comes from: small numbers, in which 0 always means the simplest thing."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

T = TypeVar("T")

# The choices of a schedule, by who made them. So what one client no longer does, because it was
# shrunk away, does not change what another one does.
Script = Mapping[str, Sequence[int]]


class Choices:
    """Makes the choices of one schedule and keeps them, so that they can be made again.

    They come from ``seed``, or from a ``script`` of earlier ones, after whose end each is 0.
    ``stream`` is who chooses; the world sets it.
    """

    def __init__(self, seed: int | None = None, script: Script | None = None) -> None:
        self.made: dict[str, list[int]] = {}
        self.stream = ""
        self._random = random.Random(seed).random if seed is not None else None
        self._script = script or {}

    def below(self, limit: int) -> int:
        """A number from 0 to ``limit - 1``."""
        made = self.made.setdefault(self.stream, [])
        if self._random:
            value = int(self._random() * limit)
        else:
            script = self._script.get(self.stream, ())
            value = min(script[len(made)], limit - 1) if len(made) < len(script) else 0
        made.append(value)
        return value

    def pick(self, options: Sequence[T]) -> T:
        """One of ``options``, the first of which is the simplest."""
        return options[self.below(len(options))]

    def chance(self, per_mille: int) -> bool:
        """Whether something happens that happens ``per_mille`` times in a thousand."""
        return per_mille > 0 and self.below(1000) >= 1000 - per_mille


def shrink(script: Script, fails: Callable[[Script], bool], *, seconds: float) -> Script:
    """The simplest script found, within ``seconds``, that still ``fails``.

    Blocks of its choices become 0, first large ones, then small ones: the simplest thing happens there
    instead. What is left is halved as often as it goes.
    """
    end = time.monotonic() + seconds
    left = {(stream, at): n for stream, made in script.items() for at, n in enumerate(made) if n}
    simpler: tuple[Callable[[int], int], ...] = (lambda _n: 0, lambda n: n // 2, lambda n: n - 1)
    size, before = len(left), None
    while (size > 1 or left != before) and time.monotonic() < end:
        before = dict(left)
        places = list(left)
        for start in range(0, len(places), size):
            for simplify in simpler if size == 1 else simpler[:1]:
                tried = left | {at: simplify(left[at]) for at in places[start : start + size]}
                tried = {place: number for place, number in tried.items() if number}
                if tried != left and time.monotonic() < end and fails(_script_of(tried)):
                    left = tried
                    break
        size = max(min(size, len(left)) // 2, 1)
    return _script_of(left)


def _script_of(chosen: Mapping[tuple[str, int], int]) -> Script:
    script: dict[str, list[int]] = {}
    for (stream, at), number in sorted(chosen.items()):
        made = script.setdefault(stream, [])
        made += [0] * (at - len(made)) + [number]
    return script
