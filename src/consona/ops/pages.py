"""The pages of the dashboard as HTML, and their regions for live updates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlencode

import jinja2
import msgspec

from consona.ops import words
from consona.ops.charts import bars, latency_chart, rate_chart
from consona.ops.figures import Figures
from consona.ops.guards import guards
from consona.ops.records import EntryRecord, SpanRecord
from consona.ops.views import MINUTE_S, Overview, PartView, Step, Window

__all__ = ["OUTCOMES", "STATIC", "Filter", "Pages", "PartPage", "Static"]

HERE: Final = Path(__file__).parent
OUTCOMES: Final = ("ok", "failed", "cancelled")

OVERVIEW_REGIONS: Final = ("health", "traffic", "services", "entries")
PART_REGIONS: Final = ("part_figures", "traffic", "operations", "guards", "entries")
DATABASE: Final = "sql"
"""The kind of parts whose page has these too:"""
DATABASE_REGIONS: Final = ("statements", "slow")


@dataclass(frozen=True, slots=True)
class Static:
    """A file of the page: its bytes, type, and a tag that changes with them."""

    body: bytes
    type: str
    tag: str


def _load(name: str, kind: str) -> Static:
    body = (HERE / "static" / name).read_bytes()
    return Static(body, kind, sha256(body).hexdigest()[:16])


STATIC: Final = {
    "ops.css": _load("ops.css", "text/css; charset=utf-8"),
    "ops.js": _load("ops.js", "text/javascript; charset=utf-8"),
    "icon.svg": _load("icon.svg", "image/svg+xml"),
}


@dataclass(frozen=True, slots=True)
class Filter:
    """Which of the last operations are wanted. `part` is `service/part`, each percent-encoded; empty means all."""

    part: str = ""
    outcome: str = ""

    @property
    def query(self) -> str:
        return urlencode({name: value for name, value in (("part", self.part), ("outcome", self.outcome)) if value})


@dataclass(frozen=True, slots=True)
class PartPage:
    """What the page of one part shows."""

    shown: Overview
    part: PartView
    steps: Sequence[Step]
    operations: Sequence[tuple[str, Figures]]
    entries: Sequence[EntryRecord]
    statements: Sequence[tuple[str, Figures]] = ()
    """Of a database: each statement with its figures, those first that took most time."""
    slow: Sequence[EntryRecord] = ()
    """Of a database: the last slow calls, with their plans."""


class Pages:
    """Draws pages. `root` is always the path under which the dashboard is mounted, without a slash at its end."""

    def __init__(self) -> None:
        env = jinja2.Environment(
            loader=jinja2.FileSystemLoader(HERE / "templates"),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        env.filters |= {
            "duration": words.duration,
            "count": words.count,
            "rate": words.rate,
            "share": words.share,
            "clock": words.clock_time,
            "iso": words.iso_time,
            "ago": words.ago,
            "plural": words.plural,
            "attributes": attributes,
            "plan": plan,
            "flat": flat,
            "guards": guards,
            "part_key": part_key,
            "part_path": part_path,
        }
        env.globals |= {"outcomes": OUTCOMES, "static_tags": {name: static.tag for name, static in STATIC.items()}}
        self._env = env

    def overview(
        self, root: str, shown: Overview, steps: Sequence[Step], entries: Sequence[EntryRecord], wanted: Filter
    ) -> str:
        return self._page("overview.html", **self._overview(root, shown, steps, entries, wanted))

    def overview_regions(
        self, root: str, shown: Overview, steps: Sequence[Step], entries: Sequence[EntryRecord], wanted: Filter
    ) -> dict[str, str]:
        return self._regions(OVERVIEW_REGIONS, self._overview(root, shown, steps, entries, wanted))

    def part(self, root: str, page: PartPage) -> str:
        return self._page("part.html", **self._part(root, page))

    def part_regions(self, root: str, page: PartPage) -> dict[str, str]:
        regions = PART_REGIONS + (DATABASE_REGIONS if page.part.kind == DATABASE else ())
        return self._regions(regions, self._part(root, page))

    def trace(self, root: str, trace_id: str, spans: Sequence[SpanRecord], now: float) -> str:
        rows = bars(spans)
        return self._page(
            "trace.html",
            root=root,
            at=now,
            trace_id=trace_id,
            rows=rows,
            begin=min((span.start_ns for span in spans), default=0) / 1e9,
            whole=max((row.start + row.span.duration_ns / 1e9 for row in rows), default=0.0),
            failed=sum(span.outcome == "failed" for span in spans),
            services=sorted({span.service for span in spans}),
        )

    def message(self, root: str, title: str, text: str) -> str:
        """A page that only says something: what was not found, or why nothing can be shown."""
        return self._page("message.html", root=root, title=title, text=text)

    def _overview(
        self, root: str, shown: Overview, steps: Sequence[Step], entries: Sequence[EntryRecord], wanted: Filter
    ) -> dict[str, Any]:
        entrance = shown.entrance
        servers = bool(entrance) and entrance[0].kind == "rest.server"
        return {
            "root": root,
            "at": shown.at,
            "view": shown,
            "entrance": Figures.merged(part.minute for part in entrance),
            "entrance_rate": sum(part.rate for part in entrance),
            "entrance_in_flight": sum(part.in_flight for part in entrance),
            "noun": "Requests" if servers else "Operations",
            "of": "all servers" if servers else "all parts",
            "entries": entries,
            "wanted": wanted,
            "stream": f"{root}/ops/stream" + (f"?{wanted.query}" if wanted.query else ""),
            **_traffic(steps, shown.window, "Requests" if servers else "Operations"),
        }

    def _part(self, root: str, page: PartPage) -> dict[str, Any]:
        part = page.part
        noun = "Requests" if part.kind.startswith("rest.") else "Operations"
        return {
            "root": root,
            "at": page.shown.at,
            "view": page.shown,
            "part": part,
            "noun": noun,
            "of": part.name,
            "operations": page.operations,
            "entries": page.entries,
            "is_database": part.kind == DATABASE,
            "statements": page.statements,
            "statements_s": sum(figures.sum_ns for _, figures in page.statements) / 1e9,
            "slow": page.slow,
            "wanted": None,
            "stream": f"{root}/ops/stream?" + urlencode({"page": part_path(part), "kind": part.kind}),
            **_traffic(page.steps, page.shown.window, noun),
        }

    def _page(self, template: str, **values: Any) -> str:
        return self._env.get_template(template).render(**values)

    def _regions(self, names: Sequence[str], values: Mapping[str, Any]) -> dict[str, str]:
        return {name: self._env.get_template(f"_{name}.html").render(values) for name in names}


def _traffic(steps: Sequence[Step], window: Window, noun: str) -> dict[str, Any]:
    in_minute = MINUTE_S // window.step_s
    by_minute = [steps[i : i + in_minute] for i in range(0, len(steps), in_minute)]
    return {
        "window": window,
        "charts": [rate_chart(steps, window=window, noun=noun), latency_chart(steps)],
        "minutes": [
            (group[0].at, Figures.merged(step.figures for step in group)) for group in reversed(by_minute) if group
        ],
    }


def attributes(text: str) -> list[tuple[str, str]]:
    """The attributes of an operation as names and values."""
    return flat(msgspec.json.decode(text))


def plan(text: str) -> str:
    """The plan among the attributes of a slow query; nothing where there is none."""
    lines = msgspec.json.decode(text).get("plan", [])
    return "\n".join(lines) if isinstance(lines, list) else ""


def flat(data: Any, *, above: str = "") -> list[tuple[str, str]]:
    """Nested figures as a flat list.

    Example:
        >>> flat({"pool": {"size": 5, "free": 3}, "open": True})
        [('pool, size', '5'), ('pool, free', '3'), ('open', 'yes')]
    """
    if isinstance(data, Mapping):
        found: list[tuple[str, str]] = []
        for name, value in data.items():
            shown = [above, "" if name == "keys" else str(name).replace("_", " ")]
            found += flat(value, above=", ".join(filter(None, shown)))
        return found
    if isinstance(data, list):
        return [(above, ", ".join(value for item in data for _, value in flat(item)) or "none")]
    if isinstance(data, bool):
        return [(above, "yes" if data else "no")]
    return [(above, "none" if data is None else f"{data:g}" if isinstance(data, float) else str(data))]


def part_key(part: PartView) -> str:
    """How a part is named in the filter and in paths."""
    return f"{quote(part.service, safe='')}/{quote(part.name, safe='')}"


part_path = part_key
