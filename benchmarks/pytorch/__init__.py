"""The other side of the comparison: the same train steps, written for PyTorch."""
