"""SatCLIP's SIREN on its harmonics, and the encoder of the package `geoclip`, which has weights."""

import importlib
import importlib.util
import sys
import types

import numpy as np
import scipy.special
import torch
from stored import Case
from torch import nn

from originals import drawing

PLACES = 24
IN_FLOAT32 = 8  # of the places, those that are also embedded as the package itself does


def places(count, seed=0):
    """(lon, lat) float32 [count] each, even on the sphere, the corners of the map among them."""
    rng = np.random.default_rng(seed)
    lon, lat = rng.uniform(-180, 180, count), np.degrees(np.arcsin(rng.uniform(-1, 1, count)))
    corners = [(-180, -90), (180, 90), (0, 0), (180, 0), (2.3522, 48.8566)]
    lon[: len(corners)], lat[: len(corners)] = np.array(corners).T
    return lon.astype(np.float32), lat.astype(np.float32)


def geoclip_encoder():
    """The package's own class with its own weights, without importing the rest of the package."""
    if "pandas" not in sys.modules and importlib.util.find_spec("pandas") is None:
        sys.modules["pandas"] = types.ModuleType("pandas")  # imported for the gallery alone
    if "geoclip" not in sys.modules:
        root = importlib.util.find_spec("geoclip").submodule_search_locations[0]
        for name, folder in (("geoclip", root), ("geoclip.model", f"{root}/model")):
            # Its __init__ wants torchvision and a CLIP; the encoder needs neither.
            sys.modules[name] = types.ModuleType(name)
            sys.modules[name].__path__ = [folder]
    return importlib.import_module("geoclip.model.location_encoder").LocationEncoder().eval()


def exactly(encoder, lon, lat):
    """The encoder in float64, [B, 512]: its own `forward` adds into float32."""
    module = importlib.import_module("geoclip.model.location_encoder")
    encoder = encoder.double()
    where = torch.from_numpy(np.stack([lat, lon], axis=1)).double()
    place = module.equal_earth_projection(where)
    return sum(getattr(encoder, f"LocEnc{index}")(place) for index in range(encoder.n))


def geoclip():
    """What the package makes of a few places; its weights are in the package."""
    lon, lat = places(PLACES)
    where = torch.from_numpy(np.stack([lat, lon], axis=1))
    with torch.no_grad():
        single = geoclip_encoder()(where[:IN_FLOAT32]).numpy()
        double = exactly(geoclip_encoder(), lon, lat).numpy().astype(np.float32)
    return Case({}, {"lon": lon, "lat": lat}, {"exact": double, "float32": single})


class Siren(nn.Module):
    """The network of microsoft/satclip's location_encoder.py, in evaluation."""

    def __init__(self, features, width, dim, depth):
        super().__init__()
        sizes = [features] + [width] * depth
        pairs = zip(sizes[:-1], sizes[1:], strict=True)
        self.layers = nn.ModuleList([nn.Linear(*pair) for pair in pairs])
        self.last_layer = nn.Linear(width, dim)

    def forward(self, x):
        for index, layer in enumerate(self.layers):
            x = torch.sin(layer(x) * (1.0 if index else 30.0))
        return self.last_layer(x)


class SatClip(nn.Module):
    """Its names: `model.location.nnet`, again as `model.nnet`, and `model.logit_scale`."""

    def __init__(self, degree, width=12, dim=5, depth=2):
        super().__init__()
        self.degree = degree
        self.model = nn.Module()
        self.model.location = nn.Module()
        self.model.nnet = self.model.location.nnet = Siren(degree**2, width, dim, depth)
        self.model.logit_scale = nn.Parameter(torch.zeros(()))

    def forward(self, lon, lat):
        return self.model.nnet(torch.from_numpy(harmonics(lon, lat, self.degree)))


def harmonics(lon, lat, degree):
    """SatCLIP's features by SciPy, float64: pi times too large at m = 0, no Condon-Shortley."""
    theta, phi = np.radians(lat.astype(float) + 90), np.radians(lon.astype(float) + 180)
    features = []
    for level in range(degree):
        for order in range(-level, level + 1):
            wave = scipy.special.sph_harm_y(level, abs(order), theta, phi) * (-1) ** order
            part = wave.imag if order < 0 else wave.real
            features.append(part * (np.sqrt(2) if order else np.pi))
    return np.stack(features, axis=1)


def satclip():
    """A tiny SatCLIP in float64, as its authors run it, and gradients of a weighted sum."""
    model = drawing.redraw(SatClip(degree=4), std=0.2).double()
    lon, lat = places(9)
    embedding = model(lon, lat)
    loss = (embedding * torch.linspace(-1, 1, 5)).sum()
    loss.backward()
    single = {name: value.astype(np.float32) for name, value in drawing.weights(model).items()}
    gradients = {k: v.astype(np.float32) for k, v in drawing.gradients(model).items()}
    return Case(
        single,
        {"lon": lon, "lat": lat},
        {"embedding": embedding.detach().numpy().astype(np.float32)},
        {"loss": loss.detach().numpy().astype(np.float32)},
        gradients,
    )


CASES = {"satclip": satclip, "geoclip": geoclip}
