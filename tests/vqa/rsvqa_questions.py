"""Questions as RSVQA's builder words them: its templates, things, attributes and relations.

Source of the words: syvlo/RSVQA, AutomaticDB/ConstructQuestions.py.
"""

import random

# fmt: off
LAND_USES = [
    "residential area", "grass area", "commercial area", "construction area", "industrial area",
    "allotment", "cemetery", "depot", "farmland", "farmyard", "forest", "garage", "greenfield",
    "landfill", "meadow", "military area", "orchard", "port", "railway", "recreation ground",
    "religious area", "salt pond", "vineyard",
]
# fmt: on
OBJECTS = ["building", "residential building", "commercial building", "road", "water area"]
ATTRIBUTES = ["small", "medium", "large", "square", "rectangular", "circular"]
RELATIONS = {
    "at the top of": "top",
    "on the right of": "right",
    "at the bottom of": "bottom",
    "on the left of": "left",
    "next to": "next",
}


def thing(rng: random.Random, plural: bool, relation: bool = True) -> tuple[str, str]:
    """(words, program that finds it)."""
    if relation and rng.random() < 0.2:
        one, other = thing(rng, plural, False), thing(rng, False, False)
        words, key = rng.choice(list(RELATIONS.items()))
        article = rng.choice(["the", "a"])
        return f"{one[0]} {words} {article} {other[0]}", f'where({one[1]}, "{key}", {other[1]})'
    name = rng.choice(OBJECTS + [rng.choice(LAND_USES)])
    words, program = name + "s" * plural, f'find("{name}")'
    if rng.random() < 0.3 and name != "road":
        attribute = rng.choice(ATTRIBUTES)
        size = attribute in ("small", "medium", "large")
        words = f"{attribute} {words}"
        program = f'{"sized" if size else "shaped"}({program}, "{attribute}")'
    return words, program


def question(rng: random.Random) -> tuple[str, str, str]:
    """(question, kind, program)."""
    kind = rng.choice(["presence", "count", "comp", "area", "rural_urban"])
    if kind == "presence":
        words, program = thing(rng, False)
        text = rng.choice([f"Is there a {words}", f"Is a {words} present"])
        program = f"exists({program})"
    elif kind == "count":
        words, program = thing(rng, True)
        forms = (f"How many {words} are there", f"What is the number of {words}")
        text = rng.choice([*forms, f"What is the amount of {words}"])
        program = f"count({program})"
    elif kind == "comp":
        (one, left), (other, right) = thing(rng, True), thing(rng, True)
        text, sign = rng.choice(
            [
                (f"Are there less {one} than {other}", "<"),
                (f"Are there more {one} than {other}", ">"),
                (f"Is the number of {one} equal to the number of {other}", "=="),
            ]
        )
        program = f"count({left}) {sign} count({right})"
    elif kind == "area":
        words, program = thing(rng, True)
        text, program = f"What is the area covered by {words}", f"area({program})"
    else:
        text = "Is it a rural or an urban area"
        program = '"urban" if count(find("building")) > 2 else "rural"'
    return text + " in the image" * (rng.random() < 0.1) + "?", kind, program
