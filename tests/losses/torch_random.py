"""PyTorch's CPU random stream in NumPy, so that torch-seeded golden values need no torch."""

import numpy as np


class TorchRandom:
    """torch.manual_seed(seed), then randn and nn.Linear's default initialisation."""

    def __init__(self, seed: int):
        self._bits = np.random.MT19937()
        self._bits._legacy_seeding(seed)
        self._kept: float | None = None

    def _words(self, count: int) -> np.ndarray:
        return self._bits.random_raw(count).astype(np.uint64)

    def _uniform32(self, count: int) -> np.ndarray:
        words = self._words(count) & np.uint64((1 << 24) - 1)
        return (words.astype(np.float64) * 2.0**-24).astype(np.float32)

    def _uniform64(self) -> float:
        high, low = (int(word) for word in self._words(2))
        return (((high << 32) | low) & ((1 << 53) - 1)) * 2.0**-53

    def _normal(self) -> float:
        if self._kept is not None:
            value, self._kept = self._kept, None
            return value
        first, second = self._uniform64(), self._uniform64()
        radius, angle = np.sqrt(-2 * np.log1p(-second)), 2 * np.pi * first
        self._kept = radius * np.sin(angle)
        return radius * np.cos(angle)

    def randn(self, *shape: int) -> np.ndarray:
        """Standard normal float32 of that shape."""
        count = int(np.prod(shape))
        if count < 16:
            return np.array([self._normal() for _ in range(count)], np.float32).reshape(shape)
        values = self._uniform32(count)
        for start in range(0, count - count % 16, 16):
            values[start : start + 16] = _box_muller(values[start : start + 16])
        if count % 16:
            values[-16:] = _box_muller(self._uniform32(16))
        return values.reshape(shape)

    def linear(self, inputs: int, outputs: int) -> tuple[np.ndarray, np.ndarray]:
        """weight [outputs, inputs] and bias [outputs] of a fresh nn.Linear."""
        bound = np.float32(1 / np.sqrt(inputs))
        draws = self._uniform32(inputs * outputs + outputs) * (2 * bound) - bound
        return draws[: inputs * outputs].reshape(outputs, inputs), draws[inputs * outputs :]


def _box_muller(block: np.ndarray) -> np.ndarray:
    radius = np.sqrt(-2 * np.log(1 - block[:8]))
    angle = np.float32(2 * np.pi) * block[8:]
    return np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])
