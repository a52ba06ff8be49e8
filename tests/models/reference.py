"""Plain NumPy float64 forms of what the networks compute, written from the formulas alone."""

import numpy as np
from scipy import special


def layer_norm(x, scale, bias, eps):
    mean = x.mean(-1, keepdims=True)
    variance = ((x - mean) ** 2).mean(-1, keepdims=True)
    return (x - mean) / np.sqrt(variance + eps) * scale + bias


def gelu(x):
    return x * special.ndtr(x)


def softmax(x):
    weights = np.exp(x - x.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)


def attention(x, p, mask):
    """Loops over samples and heads; p["qkv"] is [D, heads, 3, d]."""
    out = np.zeros_like(x)
    heads, size = p["qkv"].shape[1], p["qkv"].shape[3]
    for row in range(len(x)):
        for head in range(heads):
            q, k, v = (
                x[row] @ p["qkv"][:, head, part] + p["qkv_bias"][head, part] for part in range(3)
            )
            logits = q @ k.T / np.sqrt(size)
            logits[:, ~mask[row]] = -np.inf
            out[row, :, head * size : (head + 1) * size] = softmax(logits) @ v
    return out @ p["out"]["kernel"] + p["out"]["bias"]


def block(x, p, mask, eps):
    """x + attention(norm(x)), then x + mlp(norm(x))."""
    x = x + attention(layer_norm(x, **p["attention_norm"], eps=eps), p["attention"], mask)
    y = layer_norm(x, **p["mlp_norm"], eps=eps)
    hidden = gelu(y @ p["mlp"]["up"]["kernel"] + p["mlp"]["up"]["bias"])
    return x + hidden @ p["mlp"]["down"]["kernel"] + p["mlp"]["down"]["bias"]


def satclip_harmonics(lon, lat, degree):
    """[B, degree^2] from scipy's complex harmonics: pi on m = 0, no Condon-Shortley phase."""
    theta, phi = np.radians(np.asarray(lat) + 90), np.radians(np.asarray(lon) + 180)
    columns = []
    for level in range(degree):
        for order in range(-level, level + 1):
            # scipy's phase is (-1)^m; taking it out flips the sign of odd m.
            value = (-1) ** order * special.sph_harm_y(level, abs(order), theta, phi)
            part = value.imag if order < 0 else value.real
            columns.append((np.pi if order == 0 else np.sqrt(2)) * part)
    return np.stack(columns, axis=-1)
