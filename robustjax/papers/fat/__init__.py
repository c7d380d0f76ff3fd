"""FAT (Zhang et al., 2020): `paper` holds its text and equations, `figures` and `tables` its items.

The experiment of its appendix B, which no flag file can say, is in `papers.experiments`.
"""

from robustjax.papers.fat.paper import PAPER

__all__ = ["PAPER"]
