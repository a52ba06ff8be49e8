import agreement
import geoclip_package
import jax
import jax.numpy as jnp
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from originals import drawing, location  # noqa: E402

from rsvl_jax.weights.families import geoclip, satclip  # noqa: E402
from rsvl_jax.weights.sources import open_source  # noqa: E402

pytestmark = pytest.mark.parity


def imported(family, path):
    arrays = open_source(str(path)).arrays
    weights = {name: np.asarray(arrays[name], np.float32) for name in arrays}
    return agreement.imported(family, weights)


def ours(model, lon, lat, direction):
    """Embeddings [B, D], and gradients of their sum along `direction` [B, D], by their names."""

    def loss(arrays):
        out = model.module("location", arrays)(lon=lon, lat=lat)
        return (out * direction).sum(), out

    gradients, out = jax.jit(jax.grad(loss, has_aux=True))(agreement.trained(model) | frozen(model))
    return np.asarray(out), agreement.exported(model, gradients)


def frozen(model):
    return {path: jnp.asarray(model.arrays[path]) for path in model.frozen}


def test_geoclip_package_outputs_and_gradients():
    lon, lat = location.places(40, seed=3)
    model = imported(geoclip.FAMILY, geoclip_package.weights())
    encoder = location.geoclip_encoder()
    out = location.exactly(encoder, lon, lat)
    direction = np.random.default_rng(0).standard_normal(out.shape)
    (out * torch.from_numpy(direction)).sum().backward()
    actual, gradients = ours(model, lon, lat, direction.astype(np.float32))
    assert np.abs(actual - out.detach().numpy()).max() < 1e-6
    expected = {k: g for k, g in drawing.gradients(encoder).items() if not k.endswith(".b")}
    agreement.check_gradients({name: gradients[name] for name in expected}, expected, 1e-5)


@pytest.mark.parametrize(("degree", "tolerance"), [(10, 1e-5), (40, 1e-4)])
def test_satclip_from_a_lightning_checkpoint(tmp_path, degree, tolerance):
    """Full sizes; harmonics in float32 are good to 2e-4 at degree 40, see docs of the model."""
    torch.manual_seed(0)
    original = location.SatClip(degree, width=512, dim=256).double()
    path = tmp_path / "satclip.ckpt"
    torch.save({"state_dict": original.state_dict(), "hyper_parameters": {"lr": 1e-4}}, path)
    model = imported(satclip.FAMILY, path)
    assert model.model.settings["location"]["dim"] == 256
    lon, lat = location.places(40, seed=4)
    out = original(lon, lat)
    out.sum().backward()
    actual, gradients = ours(model, lon, lat, np.ones(out.shape, np.float32))
    agreement.check_close({"embedding": actual}, {"embedding": out.detach().numpy()}, tolerance)
    # Its network has two names, of which the first is read.
    expected = {k: g for k, g in drawing.gradients(original).items() if "location.nnet" in k}
    agreement.check_gradients(gradients, expected, tolerance)
