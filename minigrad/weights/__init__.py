"""Files of weights: safetensors, written in one step and verified when read, PyTorch's files, and loading them into models."""

from minigrad.weights.loading import LoadReport, load_weights
from minigrad.weights.state import load, save
from minigrad.weights.tensor_file import CheckpointError, load_file, read_metadata, save_file
from minigrad.weights.torch_file import load_torch_file
from minigrad.weights.torch_writing import save_torch_file

__all__ = [
    "CheckpointError",
    "LoadReport",
    "load",
    "load_file",
    "load_torch_file",
    "load_weights",
    "read_metadata",
    "save",
    "save_file",
    "save_torch_file",
]
