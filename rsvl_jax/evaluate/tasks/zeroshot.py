"""Classification by prompts."""

from rsvl_jax.evaluate.subject import Subject
from rsvl_jax.evaluate.suite import Spec
from rsvl_jax.evaluate.tasks import accuracies, reading
from rsvl_jax.evaluation import prompts, scoring, zeroshot
from rsvl_jax.evaluation.card import Card


def score(subject: Subject, spec: Spec) -> list[Card]:
    """Options: test (split), prompts (a set or a file), names (spelling of the classes)."""
    test = reading.split(spec, "test", "test")
    reading.labelled(test, spec)
    asked = prompts.load(
        test.classes,
        prompts=spec.options.get("prompts", "skyscript"),
        names=spec.options.get("names", "words"),
        of=spec.set,
    )
    card = subject.card(
        test,
        f"zeroshot_{asked.source}",
        f"zero-shot, {asked.source} prompts",
        reading.fit(spec),
        classes=list(asked.names),
        prompts=[texts[0] for texts in asked.texts] + [f"{len(asked.texts[0])} a class"],
        class_vector=asked.describe(),
    )
    seen = subject.features(test, reading.fit(spec))
    if subject.encoders.texts is None or "text_space" not in seen:
        return scoring.not_applicable(card, ["accuracy"], "the model has no text encoder")
    vectors = prompts.vectors(asked, subject.texts)
    scores = zeroshot.scores(seen["text_space"], vectors)
    return accuracies.cards(card, scores, test, asked.names)
