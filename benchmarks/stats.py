"""The statistics of the benchmark: medians of paired ratios, and how sure they are."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple


class Estimate(NamedTuple):
    """A median, and the interval that holds the true one with 95 % confidence."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.2f} [{self.low:.2f}, {self.high:.2f}]"


def estimate(values: Sequence[float]) -> Estimate:
    """The median of independent values, with a confidence interval that assumes no distribution.

    Each value is below the true median with probability 1/2, so the number that are below it is
    binomial: the interval from the k-th smallest to the k-th largest misses with probability
    2 P(at most k-1 of n). The narrowest that misses at most once in twenty is taken. With five
    values or fewer even the widest misses more often.
    """
    ordered, count = sorted(values), len(values)
    narrow = (k for k in range(1, count // 2 + 1) if misses(count, k) <= 0.05)
    k = max(narrow, default=1)
    return Estimate(statistics.median(ordered), ordered[k - 1], ordered[-k])


def misses(count: int, k: int) -> float:
    """How often the true median is outside the k-th smallest and the k-th largest value."""
    return 2 * sum(math.comb(count, i) for i in range(k)) / 2**count


def ratios(mine: Sequence[float], other: Sequence[float]) -> Estimate:
    """The median of the ratios of values measured side by side, round by round.

    What slows the machine in one round slows both, and falls out.
    """
    return estimate([a / b for a, b in zip(mine, other, strict=True)])
