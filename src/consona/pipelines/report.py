"""What a run did."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

__all__ = ["Report"]


@dataclass(slots=True, kw_only=True)
class Report:
    """Of one run of a pipeline. A run that was resumed counts from its first beginning."""

    pipeline: str
    run: str
    resumed: bool = False
    """Whether it went on where an earlier one was cut off."""
    read: int = 0
    """Rows that the source gave."""
    loaded: int = 0
    """Rows that the target has of them."""
    rejected: int = 0
    left_out: int = 0
    """Rows that filters left out, and steps that make one row of several; in this process."""
    batches: int = 0
    seconds: float = 0.0
    """Of this process."""
    finished: bool = False
    guarantee: str = ""
    changes: list[str] = field(default_factory=list)
    """How the target was changed for the rows: columns that were added."""
    warnings: list[str] = field(default_factory=list)
    """Expectations that did not hold and only warn."""
    reasons: dict[str, int] = field(default_factory=dict)
    """Why rows were refused, and how many; the commonest reasons, in this process."""

    @property
    def rate(self) -> float:
        """Rows loaded a second."""
        return self.loaded / self.seconds if self.seconds else 0.0

    def as_dict(self) -> dict[str, Any]:
        return asdict(self) | {"rate": self.rate}

    def __str__(self) -> str:
        end = "finished" if self.finished else "stopped"
        return (
            f"{self.pipeline}: {end} after {self.seconds:.1f} s; {self.read} rows read, {self.loaded} loaded,"
            f" {self.rejected} rejected"
        )
