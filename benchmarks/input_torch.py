"""The PyTorch side of `benchmarks/input.py`: a DataLoader with Pillow, or with our own decoder."""

import io
import math

import cv2
import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from benchmarks import contest
from benchmarks.input_shape import MEAN, SHAPE, STD, load_images


class Photos(Dataset):
    """What torchvision's RandomResizedCrop, ToTensor and Normalize do, without torchvision."""

    def __init__(self, images: list[bytes]) -> None:
        self.images = images
        self.mean = torch.tensor(MEAN).view(3, 1, 1)
        self.std = torch.tensor(STD).view(3, 1, 1)

    def __len__(self) -> int:
        return SHAPE.batch * SHAPE.steps

    def __getitem__(self, index: int) -> torch.Tensor:
        pixels = self.crop_and_resize(self.images[index % len(self.images)])
        tensor = torch.from_numpy(pixels).permute(2, 0, 1).contiguous()
        return tensor.to(torch.float32).div(255).sub_(self.mean).div_(self.std)

    def crop_and_resize(self, data: bytes) -> np.ndarray:
        """JPEG bytes to RGB uint8 [size, size, 3], with Pillow."""
        image = Image.open(io.BytesIO(data)).convert("RGB")
        top, left, height, width = draw_crop(image.height, image.width)
        image = image.crop((left, top, left + width, top + height))
        return np.array(image.resize((SHAPE.size, SHAPE.size), Image.Resampling.BILINEAR))


class OpenCVPhotos(Photos):
    """The same with the decoder and the resize of our own pipeline."""

    def crop_and_resize(self, data: bytes) -> np.ndarray:
        """JPEG bytes to RGB uint8 [size, size, 3], with OpenCV."""
        flags = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
        top, left, height, width = draw_crop(*image.shape[:2])
        window = image[top : top + height, left : left + width]
        return cv2.resize(window, (SHAPE.size, SHAPE.size), interpolation=cv2.INTER_LINEAR)


def draw_crop(rows: int, columns: int) -> tuple[int, int, int, int]:
    """torchvision's RandomResizedCrop.get_params: (top, left, height, width)."""
    bounds = torch.log(torch.tensor(SHAPE.ratio))
    for _ in range(10):
        area = rows * columns * torch.empty(1).uniform_(*SHAPE.scale).item()
        aspect = torch.exp(torch.empty(1).uniform_(bounds[0].item(), bounds[1].item())).item()
        width, height = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < width <= columns and 0 < height <= rows:
            top = torch.randint(0, rows - height + 1, size=(1,)).item()
            return top, torch.randint(0, columns - width + 1, size=(1,)).item(), height, width
    return 0, 0, rows, columns


def serve(images: str, *, opencv: bool) -> None:
    """Answers rounds; the worker processes live on between them."""
    cv2.setNumThreads(0)
    photos = (OpenCVPhotos if opencv else Photos)(load_images(images))
    loader = DataLoader(
        photos,
        batch_size=SHAPE.batch,
        shuffle=True,
        num_workers=SHAPE.workers,
        persistent_workers=True,
    )

    def work() -> None:
        for batch in loader:
            assert batch.shape == (SHAPE.batch, 3, SHAPE.size, SHAPE.size)

    contest.serve(work)
