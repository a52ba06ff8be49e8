"""JPEG files: what their header says, and the rows of them that are wanted, decoded."""

from dataclasses import dataclass

import numpy as np
import simplejpeg

_HEADER = 64  # segments before a JPEG's size; more than any camera writes
_NO_FRAME = (0xC4, 0xC8, 0xCC)  # of the markers C0 to CF, those that do not begin a frame
_SEQUENTIAL = (0xC0, 0xC1)  # frames whose rows come one after the other
_BLOCK = 16  # rows that are coded together, at most, but for colour at a quarter of the rows
_MOST = 2**28  # pixels; a damaged header may ask for anything
_END = b"\xff\xd9"


@dataclass(frozen=True)
class Frame:
    """What the header says. place: of the marker that begins the frame."""

    shape: tuple[int, int]
    components: int
    sequential: bool
    place: int


def frame(data: bytes) -> Frame | None:
    """The header of a JPEG; None if it is none or does not say its size.

    Source: ITU-T T.81, B.1.1.4 (markers) and B.2.2 (frame header).
    """
    if data[:2] != b"\xff\xd8":
        return None
    place = 2
    for _ in range(_HEADER):
        segment = data[place : place + 10]
        if len(segment) < 10 or segment[0] != 0xFF:
            return None
        marker = segment[1]
        if marker == 0xFF:  # a fill byte
            place += 1
        elif 0xC0 <= marker <= 0xCF and marker not in _NO_FRAME:
            rows, columns = int.from_bytes(segment[5:7], "big"), int.from_bytes(segment[7:9], "big")
            found = Frame((rows, columns), segment[9], marker in _SEQUENTIAL, place)
            return found if rows and columns else None
        else:
            place += 2 + int.from_bytes(segment[2:4], "big")
    return None


def decode_rows(data: bytes, header: Frame, rows: int, reduce: int = 1) -> np.ndarray | None:
    """At least the first `rows` rows of a colour JPEG, uint8 [h, w, 3], the same as of the whole.

    reduce: 1, 2, 4 or 8, by which both axes shrink. The rows below are neither read nor
    transformed: the header is made to say that the image ends there. None where the file is not of
    the usual kind, or may be damaged: that is for a decoder that says so.
    """
    height, width = header.shape
    usual = header.components == 3 and height * width <= _MOST and data.endswith(_END)
    if not usual:
        return None
    # A block more than is asked for: colours of the last row are blended with those below.
    stop = min(height, (-(-rows // _BLOCK) + 1) * _BLOCK) if header.sequential else height
    if stop < height:
        data = _ending_at(data, header, stop)
    least = {"min_height": -(-stop // reduce), "min_width": -(-width // reduce)}
    try:
        # What is left over at the end is an error that is meant.
        return simplejpeg.decode_jpeg(data, strict=stop == height, **(least if reduce > 1 else {}))
    except ValueError:
        return None


def _ending_at(data: bytes, header: Frame, rows: int) -> bytes:
    place = header.place + 5
    return b"".join((data[:place], rows.to_bytes(2, "big"), data[place + 2 :]))
