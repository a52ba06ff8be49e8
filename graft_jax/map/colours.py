"""Colours of the classes of a map."""

from matplotlib import colormaps

_FEW = 10


def class_colours(count: int) -> dict[int, tuple[int, int, int, int]]:
    """Class -> RGBA of 0 to 255, well apart for few classes; 255, no class, is transparent."""
    if count <= _FEW:
        found = [colormaps["tab10"](number) for number in range(count)]
    else:
        found = [colormaps["gist_ncar"]((number + 0.5) / count) for number in range(count)]
    colours = {n: tuple(round(255 * part) for part in colour) for n, colour in enumerate(found)}
    return colours | {255: (0, 0, 0, 0)}  # type: ignore[return-value]
