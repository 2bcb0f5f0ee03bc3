"""Names of PyTorch's that minigrad leaves out, and what to do instead."""

from __future__ import annotations

import sys

__all__ = ["OUTSIDE", "announce"]

# name in torch -> what to do instead
OUTSIDE = {
    "ao": "minigrad computes in floating point; for 16 bits see minigrad.autocast",
    "backends": "minigrad's results never depend on the threads or the memory order, so there is nothing to set",
    "compile": "minigrad's kernels are compiled already: use the function or module itself",
    "distributed": "minigrad runs on one device",
    "multiprocessing": "minigrad.data.DataLoader needs none",
    "onnx": "minigrad does not export networks",
    "quantization": "minigrad computes in floating point; for 16 bits see minigrad.autocast",
    "sparse": "minigrad's tensors are dense",
    # packages inside packages, for import statements; their own packages explain the attributes
    "nn.modules": "all layers are in minigrad.nn itself: nn.Conv2d instead of nn.modules.conv.Conv2d",
    "nn.parallel": "minigrad runs on one device: use the module itself",
    "utils.tensorboard": "minigrad.training.fit writes metrics and learning curves into its run folder",
}


class _Finder:
    """Explains ``import minigrad.distributed`` and ``from minigrad import distributed``, whose own message says nothing."""

    def find_spec(self, fullname: str, path=None, target=None) -> None:
        package, _, name = fullname.partition(".")
        if package == "minigrad" and name in OUTSIDE:
            raise ImportError(f"there is no {fullname}: {OUTSIDE[name]}", name=fullname)


def announce() -> None:
    """Let Python's import statement ask here, last, for modules that nobody has."""
    if not any(type(finder).__name__ == _Finder.__name__ and type(finder).__module__ == __name__ for finder in sys.meta_path):
        sys.meta_path.append(_Finder())
