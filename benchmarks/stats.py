"""The statistics of the benchmark: medians of paired ratios, and how sure they are."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Estimate:
    """A median and the interval that holds the true one with the given confidence."""

    median: float
    low: float
    high: float
    confidence: float
    count: int

    def __str__(self) -> str:
        return f"{self.median:.2f} [{self.low:.2f}, {self.high:.2f}]"


def estimate(values: Sequence[float], confidence: float = 0.95) -> Estimate:
    """The median of independent values, with a confidence interval that assumes no distribution.

    Each value is below the true median with probability 1/2, so the number that are below it is
    binomial: the interval from the k-th smallest to the k-th largest misses with probability
    2 P(at most k-1 of n). The narrowest that misses seldom enough is taken. With five values or
    fewer even the widest misses more often than one in twenty; ``confidence`` then says so.
    """
    if not values:
        raise ValueError("There is no median of nothing.")
    ordered = sorted(values)
    count = len(ordered)
    best, reached = 1, coverage(count, 1)
    for k in range(2, count // 2 + 1):
        if coverage(count, k) < confidence:
            break
        best, reached = k, coverage(count, k)
    return Estimate(
        statistics.median(ordered), ordered[best - 1], ordered[count - best], reached, count
    )


def coverage(count: int, k: int) -> float:
    """How often the true median lies between the k-th smallest and the k-th largest value."""
    return max(0.0, 1 - 2 * sum(math.comb(count, i) for i in range(k)) / 2**count)


def ratios(mine: Sequence[float], other: Sequence[float]) -> Estimate:
    """The median of the ratios of values measured side by side, round by round.

    What slows the machine in one round slows both, and falls out.
    """
    return estimate([a / b for a, b in zip(mine, other, strict=True)])
