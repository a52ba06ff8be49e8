"""The PyTorch side of `benchmarks/input.py`: DataLoader and webdataset, Pillow and our decoder."""

import io
import itertools
import os
from collections.abc import Callable, Iterable, Iterator

import cv2
import numpy as np
import torch
import webdataset
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from benchmarks import contest
from benchmarks.input_shape import AHEAD, MEAN, SHAPE, STD, TARS, load_images

Decode = Callable[[bytes], torch.Tensor]


class Pillow:
    """JPEG bytes to float32 [3, size, size], written as people write it."""

    def __init__(self) -> None:
        self.transform = transforms.Compose(
            [
                transforms.RandomResizedCrop(SHAPE.size, SHAPE.scale, SHAPE.ratio),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(MEAN, STD),
            ]
        )

    def __call__(self, data: bytes) -> torch.Tensor:
        return self.transform(Image.open(io.BytesIO(data)).convert("RGB"))


class OpenCV:
    """The same with the decoder of our own pipeline, at full size."""

    def __init__(self) -> None:
        self.mean = torch.tensor(MEAN).view(3, 1, 1)
        self.std = torch.tensor(STD).view(3, 1, 1)

    def __call__(self, data: bytes) -> torch.Tensor:
        flags = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
        top, left, height, width = transforms.RandomResizedCrop.get_params(
            torch.empty(3, *image.shape[:2], device="meta"), SHAPE.scale, SHAPE.ratio
        )
        window = image[top : top + height, left : left + width]
        pixels = cv2.resize(window, (SHAPE.size, SHAPE.size), interpolation=cv2.INTER_LINEAR)
        if torch.rand(1) < 0.5:
            pixels = cv2.flip(pixels, 1)
        tensor = torch.from_numpy(pixels).permute(2, 0, 1).contiguous()
        return tensor.to(torch.float32).div(255).sub_(self.mean).div_(self.std)


class Photos(Dataset):
    """The tiles by number, over and over."""

    def __init__(self, images: list[bytes], decode: Decode) -> None:
        self.images, self.decode = images, decode

    def __len__(self) -> int:
        return SHAPE.batch * SHAPE.steps

    def __getitem__(self, index: int) -> torch.Tensor:
        return self.decode(self.images[index % len(self.images)])


def serve(folder: str, *, opencv: bool, tars: bool) -> None:
    """Answers rounds; the worker processes live on between them."""
    cv2.setNumThreads(0)
    decode = OpenCV() if opencv else Pillow()
    loader = _from_tars(folder, decode) if tars else _by_number(folder, decode)
    # An endless stream runs on between rounds: what is ready when one starts does not count.
    steps = SHAPE.steps + (AHEAD * SHAPE.workers if tars else 0)

    def work() -> None:
        for batch in itertools.islice(loader, steps):
            assert batch.shape == (SHAPE.batch, 3, SHAPE.size, SHAPE.size)

    contest.serve(work)


def _by_number(folder: str, decode: Decode) -> Iterable[torch.Tensor]:
    return DataLoader(
        Photos(load_images(folder), decode),
        batch_size=SHAPE.batch,
        shuffle=True,
        num_workers=SHAPE.workers,
        persistent_workers=True,
    )


def _from_tars(folder: str, decode: Decode) -> Iterator[torch.Tensor]:
    dataset = (
        webdataset.WebDataset(os.path.join(folder, TARS), resampled=True, shardshuffle=False)
        .shuffle(200)
        .to_tuple("jpg")
        .map_tuple(decode)
        .batched(SHAPE.batch)
    )
    loader = webdataset.WebLoader(
        dataset,
        batch_size=None,
        num_workers=SHAPE.workers,
        prefetch_factor=AHEAD,
        multiprocessing_context="fork",
    )
    return (batch for (batch,) in loader)
