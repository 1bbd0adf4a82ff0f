"""Where chance comes from: small numbers, in which 0 always means the simplest thing."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
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


class Shrinker:
    """Makes a failing script shorter and its numbers smaller, as long as it still ``fails``."""

    def __init__(self, script: Script, fails: Callable[[Script], bool], seconds: float) -> None:
        self.script = {stream: _stripped(numbers) for stream, numbers in script.items()}
        self.fails = fails
        self.end = time.monotonic() + seconds

    def run(self) -> Script:
        """The simplest script found in the time there is."""
        before: Script = {}
        while self.script != before and time.monotonic() < self.end:
            before = dict(self.script)
            self._remove_streams()
            for stream in list(self.script):
                self._shorten(stream)
            for stream in list(self.script):
                self._lower(stream)
        return {stream: numbers for stream, numbers in self.script.items() if numbers}

    def _try(self, changes: Script) -> bool:
        changed = {stream: _stripped(numbers) for stream, numbers in changes.items()}
        candidate = self.script | changed
        if time.monotonic() < self.end and candidate != self.script and self.fails(candidate):
            self.script = candidate
            return True
        return False

    def _remove_streams(self) -> None:
        names = [name for name, numbers in self.script.items() if numbers]
        for start, end in _blocks(len(names)):
            self._try({name: [] for name in names[start:end]})

    def _shorten(self, stream: str) -> None:
        for start, end in _blocks(len(self.script[stream])):
            numbers = self.script[stream]
            zeros = [0] * (end - start)
            if not self._try({stream: numbers[:start] + zeros + numbers[end:]}):
                self._try({stream: numbers[:start] + numbers[end:]})

    def _lower(self, stream: str) -> None:
        for index in range(len(self.script[stream])):
            self._lower_to(stream, index, lambda number: number // 2)
            self._lower_to(stream, index, lambda number: number - 1)

    def _lower_to(self, stream: str, index: int, lower: Callable[[int], int]) -> None:
        numbers = self.script[stream]
        if index < len(numbers) and numbers[index]:
            self._try({stream: [*numbers[:index], lower(numbers[index]), *numbers[index + 1 :]]})


def shrink(script: Script, fails: Callable[[Script], bool], *, seconds: float) -> Script:
    """The shortest and simplest script found, within ``seconds``, that still ``fails``."""
    return Shrinker(script, fails, seconds).run()


def _blocks(length: int) -> Iterator[tuple[int, int]]:
    """All of it, then its halves, and so on to single places; the last first."""
    size = length
    while size:
        for end in range(length, 0, -size):
            yield max(end - size, 0), end
        size //= 2


def _stripped(numbers: Sequence[int]) -> list[int]:
    """Without the zeros at its end, which stand for themselves."""
    kept = list(numbers)
    while kept and not kept[-1]:
        kept.pop()
    return kept
