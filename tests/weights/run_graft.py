"""GRAFT's tower of ours on the inputs of a case."""

import agreement
import jax
import jax.numpy as jnp
import numpy as np

from rsvl_jax.losses import masked, multi_positive
from rsvl_jax.losses.contrastive import unit


def forward(model, arrays, inputs):
    """(sum of the losses, ({name: loss}, {name: output}))."""
    images = jnp.asarray(inputs["images"].transpose(0, 2, 3, 1))
    out = model.module("satellite", arrays)(images)
    pixels = unit(model.module("projector", arrays)(out.hidden[:, 1:]))
    places = jnp.asarray(inputs["places"])
    anchors = {"image": out.embedding, "pixel": masked.gather(pixels, places)}
    photos = jnp.asarray(inputs["photos"])
    losses = {}
    for name, anchor in anchors.items():
        total, count = multi_positive.info_nce(
            anchors=anchor,
            photos=photos,
            mask=jnp.ones(places.shape, bool),
            logit_scale=arrays["scale/value"],
        )
        losses[name] = total / count
    return sum(losses.values()), (losses, {"image": unit(out.embedding), "pixels": pixels})


def check(family, case, tolerance):
    """Outputs, losses and all gradients of the case; all but the scale come back bit by bit."""
    model = agreement.imported(family, case.weights, case.config)
    run = jax.jit(jax.value_and_grad(lambda a: forward(model, a, case.inputs), has_aux=True))
    given = {path: jnp.asarray(value) for path, value in model.arrays.items()}
    (_, (losses, outputs)), gradients = run(given)
    agreement.check_close(outputs, case.outputs, tolerance)
    agreement.check_close(losses, case.losses, tolerance)
    del gradients["scale/value"]  # the original's is a constant
    agreement.check_gradients(agreement.exported(model, gradients), case.gradients, tolerance)
    back = agreement.exported(model)
    assert set(back) == set(case.weights)
    for name, value in case.weights.items():
        if name == "logit_scale":
            np.testing.assert_allclose(back[name], value, rtol=1e-6)
        else:
            np.testing.assert_array_equal(back[name], value, err_msg=name)
    again = agreement.imported(family, back)
    for path, value in model.arrays.items():
        np.testing.assert_array_equal(again.arrays[path], value, err_msg=path)
    return model
