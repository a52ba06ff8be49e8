"""The words of a request, from a template in a file.

A template is what the system says, a line `---`, and what the user says. In both, $caption, $tags,
$width, $height (pixels of the image as sent), $units (of boxes) and $longest (characters of a
caption) are filled in; a dollar sign is written $$.
"""

import base64
import hashlib
import os
import string
from dataclasses import dataclass
from typing import Any

from flavars_jax.ground_captions.pictures import Picture
from flavars_jax.ground_captions.rows import Row
from rsvl_jax.errors import UserError

NAMES = ("caption", "tags", "width", "height", "units", "longest")
# What a model counts boxes in -> how the prompt says so.
UNITS = {
    "pixels": "in pixels of this image",
    "thousandths": "in thousandths of the image's width (x) and height (y), 0 to 1000",
    "fractions": "in fractions of the image's width (x) and height (y), 0 to 1",
}
_OWN = os.path.join(os.path.dirname(__file__), "prompts")
_CUT = "\n---\n"


@dataclass(frozen=True)
class Prompt:
    """A template with what it needs to be filled in. Raises UserError for one that cannot be.

    text: of the template; units: one of `UNITS`; longest: characters of a caption.
    """

    text: str
    units: str = "pixels"
    longest: int = 400

    def __post_init__(self) -> None:
        if self.units not in UNITS:
            raise UserError(f"--box_units={self.units!r}: choose one of {', '.join(UNITS)}")
        template = string.Template(self.text)
        if not template.is_valid():
            raise UserError("the prompt has a lone dollar sign: write $$ for one")
        used = set(template.get_identifiers())
        for name in sorted(used - set(NAMES)):
            raise UserError(f"the prompt has ${name}: known are ${', $'.join(NAMES)}")
        if "caption" not in used:
            raise UserError("the prompt has no $caption: it would improve nothing")

    @property
    def fingerprint(self) -> str:
        """Of the words, twelve hexadecimal digits."""
        return hashlib.sha256(self.text.encode()).hexdigest()[:12]

    def words(self, row: Row, width: int, height: int) -> tuple[str, str]:
        """What the system says ("" nothing) and the user, about an image of that size."""
        values = {
            "caption": row.caption,
            "tags": "\n".join(row.tags) or "(none)",
            "width": width,
            "height": height,
            "units": UNITS[self.units],
            "longest": self.longest,
        }
        system, cut, user = self.text.partition(_CUT)
        if not cut:
            system, user = "", self.text
        said, asked = (string.Template(x.strip()).substitute(values) for x in (system, user))
        return said, asked

    def messages(self, row: Row, picture: Picture) -> list[dict[str, Any]]:
        """The messages of a chat completion."""
        system, user = self.words(row, picture.width, picture.height)
        data = base64.b64encode(picture.data).decode()
        image = {"url": f"data:{picture.mime};base64,{data}", "detail": "high"}
        parts = [{"type": "text", "text": user}, {"type": "image_url", "image_url": image}]
        first = [{"role": "system", "content": system}] if system else []
        return [*first, {"role": "user", "content": parts}]


def read(name: str) -> str:
    """A template: a file of the user's, or the name of one of ours, such as "grounded"."""
    own = os.path.join(_OWN, f"{name}.txt")
    path = own if os.path.isfile(own) else name
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except (OSError, UnicodeDecodeError) as error:
        have = ", ".join(sorted(n.removesuffix(".txt") for n in os.listdir(_OWN)))
        raise UserError(f"--prompt={name!r} cannot be read ({error}); ours are: {have}") from error
