"""The templates of pages and mails: those that come with Consona, each replaceable by one of the same name."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import jinja2

from consona.errors import ConfigurationError

__all__ = ["Theme"]

HERE: Final = Path(__file__).parent / "templates"


class Theme:
    """Draws templates.

    Args:
        folder: An application's own templates; the others stay as they are.

    Raises:
        ConfigurationError: There is no such folder.
    """

    def __init__(self, folder: str | Path | None = None) -> None:
        if folder is not None and not Path(folder).is_dir():
            raise ConfigurationError(
                f"There is no folder {str(folder)!r} with templates.", hint="Make it, or leave it out."
            )
        folders = [HERE] if folder is None else [Path(folder), HERE]
        self._env = jinja2.Environment(
            loader=jinja2.ChoiceLoader(
                [
                    jinja2.FileSystemLoader(folders),
                    jinja2.PrefixLoader({"consona": jinja2.FileSystemLoader(HERE)}),  # for `extends` of the same name
                ]
            ),
            autoescape=jinja2.select_autoescape(["html"]),
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )

    def draw(self, template: str, **values: Any) -> str:
        """One template, with these values."""
        return self._env.get_template(template).render(values)
