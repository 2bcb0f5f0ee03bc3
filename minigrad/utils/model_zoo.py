"""The name of ``hub`` in older code: ``model_zoo.load_url``, which says how to load the file."""

from __future__ import annotations

from minigrad.hub import load_state_dict_from_url as load_url

__all__ = ["load_url"]
