"""What a benchmark returns, and how `make bench` prints it.

A benchmark is a file with a function `run() -> list[Row]`. It measures us and the peers in turn, in
the same run, several times; a row holds all its samples, so the spread is shown with the ratio.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One claim: our work against a peer's, `ours[i]` and `peer[i]` measured next to each other."""

    area: str
    work: str
    peer_name: str
    ours: Sequence[float]
    peer: Sequence[float]
    unit: str
    """`req/s`, `µs`, …"""
    goal: float
    """The ratio that we ask of ourselves: at least this where higher is better, else at most."""
    higher_is_better: bool = True

    @property
    def ratios(self) -> list[float]:
        return [a / b for a, b in zip(self.ours, self.peer, strict=True)]

    @property
    def ratio(self) -> float:
        return statistics.median(self.ratios)

    @property
    def met(self) -> bool:
        return self.ratio >= self.goal if self.higher_is_better else self.ratio <= self.goal


def markdown(rows: Sequence[Row]) -> str:
    """One table: work, us, the peer, the ratio with its spread, the goal, and whether it was met."""
    lines = [
        "| area | work | us (median) | peer | peer (median) | ratio (min to max) | goal | met |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        sign = "at least" if row.higher_is_better else "at most"
        spread = f"{row.ratio:.2f} ({min(row.ratios):.2f} to {max(row.ratios):.2f})"
        lines.append(
            f"| {row.area} | {row.work} | {statistics.median(row.ours):,.4g} {row.unit} | {row.peer_name} "
            f"| {statistics.median(row.peer):,.4g} {row.unit} | {spread} | {sign} {row.goal:g} "
            f"| {'yes' if row.met else 'no'} |"
        )
    return "\n".join(lines)
