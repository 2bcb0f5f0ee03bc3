"""The CPU kernels, compiled with Numba."""
