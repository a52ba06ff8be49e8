"""The section of the loss curves, and that of rate, throughput and waiting for input."""

from collections.abc import Mapping, Sequence

from rsvl_jax.evaluation.card import Card
from rsvl_jax.report import charts
from rsvl_jax.report.files import Curve
from rsvl_jax.report.markup import Safe, join, missing, number, tag
from rsvl_jax.report.scores import HEADLINES, metric_name, title_of

LOSS = "train/loss"
_SPEED = {
    "perf/samples_per_second": ("samples per second", 1.0),
    "perf/mfu": ("model FLOP utilisation, %", 100.0),
    "perf/input_wait": ("waiting for input, % of the time", 100.0),
    "perf/goodput": ("goodput so far, % of the time since the first start", 100.0),
}
RATE = "train/learning_rate"
_OPTIMISER = {RATE: "learning rate", "train/grad_norm": "gradient norm"}


def losses(curves: Mapping[str, Curve], glossary: Mapping[str, str]) -> Safe:
    """The total and every term, each on its own scale, with the value at initialisation."""
    names = [name for name in curves if name == LOSS or name.startswith(f"{LOSS}/")]
    if not names:
        return missing("No metrics.jsonl with training losses, so there are no curves to show.")
    names.sort(key=lambda name: (name != LOSS, name))
    figures = [_loss(name, curves[name], glossary) for name in names]
    text = (
        "Thin: the logged values, each the mean over one batch. Thick: their running mean. "
        "Dashed, with a dot: the value at initialisation, before the first update. The numbers "
        "are that value and the mean of the last tenth. Every scale is its own: compare "
        "shapes, not heights. Terms are shown unweighted; the total is their weighted sum."
    )
    return join([tag("p", text, class_="note"), tag("div", figures, class_="curves")])


def _loss(name: str, curve: Curve, glossary: Mapping[str, str]) -> Safe:
    term = name.removeprefix(f"{LOSS}/")
    title = "total" if name == LOSS else term.replace("_", " ")
    start, end = first_and_last(curve)
    if start is None:
        return _figure(title, f"{number(end)}", curve, None, glossary.get(term))
    return _figure(title, f"{number(start)} → {number(end)}", curve, start, glossary.get(term))


def first_and_last(curve: Curve) -> tuple[float | None, float]:
    """The value at step 1, which is computed before any update, and the mean of the last tenth."""
    start = float(curve.values[0]) if curve.steps[0] <= 1 else None
    return start, float(curve.values[-max(1, len(curve.values) // 10) :].mean())


def _figure(
    title: str,
    numbers: str,
    curve: Curve,
    start: float | None,
    explanation: str | None = None,
    **style: bool,
) -> Safe:
    label = f"{title} over {int(curve.steps[-1]):,} steps: {numbers}"
    caption = tag(
        "figcaption",
        tag("div", tag("b", title), tag("span", numbers)),
        tag("p", explanation) if explanation else None,
    )
    return tag("figure", caption, charts.line(curve, label=label, start=start, **style))


def progress(curves: Mapping[str, Curve], cards: Sequence[Card]) -> Safe:
    """Scores while training: quick ones on held-out blocks, named as the cards name them."""
    titles = {f"eval/{card.key}": title_of(card) for card in cards}
    names = [f"eval/{key}" for key in HEADLINES if f"eval/{key}" in curves]
    names = names or [name for name in curves if name.startswith("eval/")][:6]
    figures = []
    for name in names:
        curve = curves[name]
        task, metric = name.removeprefix("eval/").rsplit("/", 1)
        title = titles.get(name, task.replace("_", " ").replace("/", " "))
        numbers = f"{curve.values[0]:.1f} → {curve.values[-1]:.1f}"
        start = float(curve.values[0])
        figures.append(_figure(title, numbers, curve, start, metric_name(metric)))
    if not figures:
        return missing("The run was not scored while it trained.")
    text = (
        "Quick scores on part of the validation blocks, in %, at fixed steps; dashed: the first, "
        "at initialisation. They guide the eye; the scores above are on the whole test split."
    )
    return join([tag("p", text, class_="note"), tag("div", figures, class_="curves")])


def machinery(curves: Mapping[str, Curve]) -> Safe:
    """Learning rate, gradient norm, throughput, utilisation and waiting, where they were logged."""
    figures = []
    for name, title in _OPTIMISER.items():
        if name in curves:
            numbers = f"highest {number(curves[name].values.max())}"
            noisy = name != RATE
            figures.append(
                _figure(title, numbers, curves[name], None, from_zero=True, smooth=noisy)
            )
    for name, (title, scale) in _SPEED.items():
        if name in curves:
            curve = Curve(curves[name].steps, scale * curves[name].values)
            numbers = f"mean {number(curve.values.mean())}"
            figures.append(_figure(title, numbers, curve, None, from_zero=True))
    if not figures:
        return missing("No learning rate and no throughput were logged.")
    text = (
        "Compiling, evaluating and saving do not count in throughput. Utilisation is the FLOPs "
        "that the model needs over what the hardware could do; on CPUs the latter is measured "
        "with a large matrix product."
    )
    return join([tag("p", text, class_="note"), tag("div", figures, class_="curves")])


def seconds(curves: Mapping[str, Curve], batch_size: int) -> float | None:
    """Time spent in training steps, from the throughput of every logged period; None if unknown."""
    curve = curves.get("perf/samples_per_second")
    if curve is None or not batch_size:
        return None
    last, total = 0, 0.0
    for step, rate in zip(curve.steps.tolist(), curve.values.tolist(), strict=True):
        total += (step - last) * batch_size / max(rate, 1e-9)
        last = step
    return total
