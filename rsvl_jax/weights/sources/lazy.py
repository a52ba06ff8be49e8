"""Arrays of a file by name, each read when it is asked for."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Tensor:
    """An array that is not yet read. dtype: NumPy's, or one of ml_dtypes."""

    shape: Shape
    dtype: np.dtype
    read: Callable[[], np.ndarray]

    @classmethod
    def of(cls, value: np.ndarray) -> "Tensor":
        """An array that is in memory."""
        return cls(value.shape, value.dtype, lambda: value)


class Arrays(Mapping[str, np.ndarray]):
    """name -> array, from what is read lazily; each access reads anew, and nothing is kept."""

    def __init__(self, tensors: Mapping[str, Tensor]):
        self.tensors = dict(tensors)

    @classmethod
    def of(cls, values: Mapping[str, np.ndarray]) -> "Arrays":
        """Arrays that are in memory."""
        return cls({name: Tensor.of(value) for name, value in values.items()})

    def __getitem__(self, name: str) -> np.ndarray:
        return self.tensors[name].read()

    def __contains__(self, name: Any) -> bool:
        return name in self.tensors

    def __iter__(self) -> Iterator[str]:
        return iter(self.tensors)

    def __len__(self) -> int:
        return len(self.tensors)

    @property
    def shapes(self) -> dict[str, Shape]:
        """Shape of each array; nothing is read."""
        return {name: tensor.shape for name, tensor in self.tensors.items()}

    def below(self, prefix: str) -> "Arrays":
        """Those whose names begin with `prefix`, which is taken away."""
        return Arrays(
            {
                name.removeprefix(prefix): tensor
                for name, tensor in self.tensors.items()
                if name.startswith(prefix)
            }
        )

    def only(self, names: Iterable[str]) -> "Arrays":
        """Those of these names, in this order."""
        return Arrays({name: self.tensors[name] for name in names})
