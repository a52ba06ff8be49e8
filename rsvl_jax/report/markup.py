"""HTML and SVG elements from Python: text is escaped unless it is markup already."""

import html
from collections.abc import Iterable
from dataclasses import dataclass
from string import Template
from typing import Union

from rsvl_jax.report.style import CSS

_VOID = frozenset({"img", "br", "hr", "meta", "col"})


# Nothing may be fetched, even if text from the data should slip through as markup.
_PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy"
  content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>$css</style>
</head>
<body>
$body
</body>
</html>
""")


class Safe(str):
    """Markup. Only the functions of this module make it, so that no text slips in unescaped."""


Child = Union[str, None, "Iterable[Child]"]


def tag(name: str, *children: Child, **attributes: object) -> Safe:
    """One element: `tag("p", "a < b", class_="note")` is `<p class="note">a &lt; b</p>`.

    Plain strings are escaped, `Safe` ones are kept, None is skipped, iterables are flattened.
    Attributes lose a trailing underscore and get hyphens for the others; None and False leave
    an attribute out, True writes its bare name.
    """
    opening = f"<{name}{''.join(_attribute(*item) for item in attributes.items())}>"
    return Safe(opening if name in _VOID else f"{opening}{join(children)}</{name}>")


def join(children: Child) -> Safe:
    """The children side by side, escaped where they are plain text."""
    if children is None:
        return Safe("")
    if isinstance(children, Safe):
        return children
    if isinstance(children, str):
        return Safe(html.escape(children, quote=False))
    return Safe("".join(join(child) for child in children))


def document(title: str, body: Child, css: str = "") -> str:
    """A whole page in the report's style, and `css` beside it; it loads nothing from elsewhere."""
    return _PAGE.substitute(title=join(title), css=CSS + css, body=join(body))


def _attribute(name: str, value: object) -> str:
    name = name.rstrip("_").replace("_", "-")
    if value is None or value is False:
        return ""
    return f" {name}" if value is True else f' {name}="{html.escape(str(value))}"'


@dataclass(frozen=True)
class Section:
    """A part of the report.

    Attributes:
      anchor: its id in the page.
      title: heading, and entry in the contents.
      body: markup below the heading.
    """

    anchor: str
    title: str
    body: Safe

    def render(self) -> Safe:
        """The section as markup."""
        heading = tag("h2", self.title, id=f"{self.anchor}-title")
        return tag(
            "section", heading, self.body, id=self.anchor, aria_labelledby=f"{self.anchor}-title"
        )


def missing(sentence: str) -> Safe:
    """The sentence that stands where a part has nothing to show."""
    return tag("p", sentence, class_="missing")


def table(head: Iterable[Child], rows: Iterable[Iterable[Child]], **attributes: object) -> Safe:
    """A table that scrolls sideways on narrow screens; the first cell of a row is its header."""
    header = tag("tr", [tag("th", cell, scope="col") for cell in head])
    body = []
    for first, *rest in rows:
        cells = [tag("th", first, scope="row"), *(tag("td", cell) for cell in rest)]
        body.append(tag("tr", cells))
    content = tag("table", tag("thead", header), tag("tbody", body), **attributes)
    return tag("div", content, class_="scroll", tabindex="0", role="region", aria_label="Table")


def details(summary: Child, *children: Child) -> Safe:
    """A part that opens when its summary is clicked."""
    return tag("details", tag("summary", summary), *children)


def number(value: float) -> str:
    """A number for people: two or three significant digits, thousands separated, a true minus."""
    return _digits(value).replace("-", "−")


def _digits(value: float) -> str:
    size = abs(value)
    if size >= 1000:
        return f"{value:,.0f}"
    if size == 0 or size >= 100:
        return f"{value:.0f}"
    if size >= 0.01:
        return f"{value:.2f}" if size < 10 else f"{value:.1f}"
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa}e{int(exponent)}"


def signed(value: float) -> str:
    """A difference with one decimal and its sign, with a true minus."""
    return f"{value:+.1f}".replace("-", "−")


def percent(value: float) -> str:
    """A score with one decimal."""
    return f"{value:.1f}"
