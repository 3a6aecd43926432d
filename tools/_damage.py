"""Damage images as Hendrycks and Dietterich's CIFAR-10-C does at severity 3 of 5 (arXiv 1903.12261)."""

from __future__ import annotations

import io
from typing import Callable, Dict

import numpy as np
from PIL import Image, ImageFilter

from data.images import read_image

__all__ = ['DAMAGES', 'damaged']

# The strengths of severity 3 in hendrycks/robustness, ImageNet-C/create_c/make_cifar_c.py.
NOISE, BLUR, CONTRAST, BRIGHTNESS, QUALITY = 0.08, 0.7, 0.4, 0.15, 58


def _noise(image: np.ndarray, random: np.random.RandomState) -> np.ndarray:
    return image + random.normal(scale=255 * NOISE, size=image.shape)


def _blur(image: np.ndarray, random: np.random.RandomState) -> np.ndarray:
    return np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(BLUR)))


def _contrast(image: np.ndarray, random: np.random.RandomState) -> np.ndarray:
    mean = image.mean(axis=(0, 1))
    return mean + CONTRAST * (image - mean)


def _brightness(image: np.ndarray, random: np.random.RandomState) -> np.ndarray:
    """Raise the value in HSV, that is, scale each pixel so that its largest component rises by as much."""
    highest = image.max(axis=2, keepdims=True).astype(np.float64)
    raised = np.minimum(highest + 255 * BRIGHTNESS, 255)
    return np.where(highest > 0, image * (raised / np.maximum(highest, 1)), raised)


def _jpeg(image: np.ndarray, random: np.random.RandomState) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(image).save(file, 'JPEG', quality=QUALITY)
    return read_image(file.getvalue())


#: (H, W, 3) uint8 and a random state -> (H, W, 3), by name.
DAMAGES: Dict[str, Callable[[np.ndarray, np.random.RandomState], np.ndarray]] = {
    'noise': _noise,
    'blur': _blur,
    'contrast': _contrast,
    'brightness': _brightness,
    'JPEG': _jpeg,
}


def damaged(images: np.ndarray, kind: str, seed: int = 0) -> np.ndarray:
    """Return (N, H, W, 3) uint8 images with the damage `kind` of :data:`DAMAGES`."""
    random = np.random.RandomState(seed)
    return np.stack([np.clip(DAMAGES[kind](image, random), 0, 255).round().astype(np.uint8) for image in images])
