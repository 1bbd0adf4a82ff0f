"""Draws the result of a run as an SVG that reads on light and on dark pages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import NamedTuple

from benchmarks.stats import Estimate

WIDTH, LABELS, VALUES = 760, 170, 70
BAR, GAP, TITLE, SPACE = 18, 6, 34, 16

STYLE = """
text { font: 13px system-ui, sans-serif; fill: #1f2328 }
.title { font-weight: 600 }
.value { font-size: 12px }
.bar { fill: #8c959f }
.mine { fill: #1f883d }
.floor { fill: #d0d7de }
.whisker { stroke: #1f2328; stroke-width: 1.5 }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 }
  .bar { fill: #6e7681 }
  .mine { fill: #3fb950 }
  .floor { fill: #484f58 }
  .whisker { stroke: #e6edf3 }
}
"""


class Bar(NamedTuple):
    """One subject's ratio, and a text for its right end."""

    label: str
    ratio: Estimate
    value: str
    kind: str = "bar"  # or mine, or floor


def draw(panels: Mapping[str, Sequence[Bar]], description: str) -> str:
    """Returns the SVG; a panel is one figure of all subjects, under its title."""
    parts: list[str] = []
    y = 0.0
    for title, bars in panels.items():
        scale = (WIDTH - LABELS - VALUES) / max(max(bar.ratio.high, 1.0) for bar in bars)
        parts.append(f'<text class="title" x="0" y="{y + 20:g}">{escape(title)}</text>')
        y += TITLE
        for bar in bars:
            parts += draw_bar(bar, y, scale)
            y += BAR + GAP
        y += SPACE
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y:g}" role="img">\n'
        f"<title>{escape(description)}</title>\n<style>{STYLE}</style>\n{body}\n</svg>\n"
    )


def draw_bar(bar: Bar, y: float, scale: float) -> list[str]:
    """Returns the elements of one bar."""
    middle = y + BAR / 2
    end, low, high = (LABELS + ratio * scale for ratio in bar.ratio)
    return [
        f'<text x="{LABELS - 8}" y="{middle + 4:g}" text-anchor="end">{escape(bar.label)}</text>',
        (
            f'<rect class="{bar.kind}" x="{LABELS}" y="{y:g}" width="{end - LABELS:.1f}"'
            f' height="{BAR}" rx="2"/>'
        ),
        f'<line class="whisker" x1="{low:.1f}" x2="{high:.1f}" y1="{middle:g}" y2="{middle:g}"/>',
        f'<text class="value" x="{high + 6:.1f}" y="{middle + 4:g}">{escape(bar.value)}</text>',
    ]
