"""Files of weights and checkpoints: the safetensors format, written in one step and verified when read."""

from minigrad.weights.loading import LoadReport, load_weights
from minigrad.weights.state import load, save
from minigrad.weights.tensor_file import CheckpointError, load_file, read_metadata, save_file

__all__ = ["CheckpointError", "LoadReport", "load", "load_file", "load_weights", "read_metadata", "save", "save_file"]
