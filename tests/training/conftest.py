from __future__ import annotations

import pytest

from minigrad.training.run_folder import RunFolder


@pytest.fixture
def no_pictures(monkeypatch):
    """Runs draw no learning curves: matplotlib takes longer than a tiny training."""
    monkeypatch.setattr(RunFolder, "draw", lambda self, history: True)
