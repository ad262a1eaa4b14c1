"""The files beside the code that a page is made of: templates, style, script (jinja2 is imported on use)."""

import re
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

WEB = files("tune_app.report") / "web"


def fill(template: str, /, **values: object) -> str:
    """Returns a template of this package, by its path, with these values.

    What is put into it is escaped, unless the template says otherwise.
    """
    return _environment().get_template(template).render(**values)


def script() -> str:
    """Returns the page's own script: its files in order, in a scope of their own."""
    names = sorted(file.name for file in WEB.iterdir() if file.name.endswith(".js"))
    parts = [(WEB / name).read_text("utf-8") for name in names]
    return '"use strict";\n(() => {\n' + "\n".join(parts) + "})();\n"


def joined(text: str) -> str:
    """Returns a text in which no line ends between a number and its unit."""
    return re.sub(r"(?<=[0-9]) (?=(?:%|pp|[KMGT]?B|s|min|h|d)\b|%)", "\u00a0", text)


def breakable(text: str) -> "Markup":
    """Returns a text as HTML in which a line may end after the parts of a label."""
    from markupsafe import Markup, escape

    return Markup("_<wbr>").join(map(escape, text.split("_")))


@cache
def _environment() -> "Environment":
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    found = Environment(
        loader=FunctionLoader(lambda path: (files("tune_app") / path).read_text("utf-8")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {"joined": joined, "breakable": breakable}
    return found
