"""Checks that the transforms share: of images, probabilities, ranges and fill values."""

from __future__ import annotations

import numpy as np

__all__ = ["check_fill", "check_images", "check_probability", "check_range", "fill_row", "filled"]


def check_images(images: np.ndarray) -> np.ndarray:
    """``images`` itself; raises TypeError or ValueError unless it is a uint8 or floating array (N, C, H, W)."""
    if not isinstance(images, np.ndarray):
        raise TypeError(f"transforms take NumPy arrays of images (N, C, H, W), got {type(images).__name__}")
    if images.ndim != 4 or (images.dtype != np.uint8 and images.dtype.kind != "f"):
        raise ValueError(f"transforms take uint8 or float images (N, C, H, W), got {images.dtype} of shape {images.shape}")
    return images


def check_probability(p: float) -> None:
    """Raise ValueError unless 0 <= p <= 1."""
    if not isinstance(p, (int, float)) or not 0 <= p <= 1:
        raise ValueError(f"p must be a probability within 0 ... 1, got {p!r}")


def check_fill(fill: float | tuple, name: str = "fill") -> None:
    """Raise ValueError unless ``fill`` is a finite number or a tuple of them."""
    try:
        values = np.atleast_1d(np.asarray(fill, np.float64))
    except (TypeError, ValueError):
        values = np.array([np.nan])
    if values.ndim != 1 or not values.size or not np.isfinite(values).all():
        raise ValueError(f"{name} must be a number, or a tuple of one number per channel, got {fill!r}")


def fill_row(fill: float | tuple, channels: int, dtype: np.dtype, name: str = "fill") -> np.ndarray:
    """``fill`` for each channel, in the images' dtype; raises ValueError if the channels or the range do not fit."""
    values = np.atleast_1d(np.asarray(fill, np.float64))
    if len(values) not in (1, channels):
        raise ValueError(f"{name} has {len(values)} values, the images have {channels} channels: give one, or one per channel")
    if dtype == np.uint8 and (values.min() < 0 or values.max() > 255):
        raise ValueError(f"{name} must lie within 0 ... 255 for uint8 images, got {fill!r}")
    return np.broadcast_to(values, channels).astype(dtype)


def filled(shape: tuple[int, int, int, int], fill: float | tuple, dtype: np.dtype) -> np.ndarray:
    """A new array (N, H, W, C) with ``fill`` in every pixel."""
    n, h, w, c = shape
    y = np.empty(shape, dtype)
    y.reshape(n, h * w * c)[...] = np.tile(fill_row(fill, c, dtype), h * w)  # long rows: much faster than pixel by pixel
    return y


def check_range(value: float | tuple[float, float], name: str) -> tuple[float, float]:
    """(lowest, highest) from such a pair, or (-v, v) from one number v; raises ValueError for anything else."""
    low, high = value if isinstance(value, (tuple, list)) and len(value) == 2 else (None, value)
    if low is None and _is_number(high):
        low = -high
    if not (_is_number(low) and _is_number(high) and low <= high):
        raise ValueError(f"{name} must be a number of at least 0, or a pair (lowest, highest), got {value!r}")
    return low, high


def _is_number(value) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and np.isfinite(value)
