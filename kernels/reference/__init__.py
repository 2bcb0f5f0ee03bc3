"""The specification of every kernel in plain NumPy, computed in float64."""
