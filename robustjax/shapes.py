"""What arrays hold, as annotations: their kinds and shapes, by the letters of the docstrings.

Nothing here is checked while a program runs. The tests check what losses, attacks and methods
return; to a static checker these are plain arrays.
"""

import jax
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Bool, Float, Int32, Integer, Real

# A loss takes any leading shape for B, none included.
Logits = Float[ArrayLike, "*B K"]
HardLabels = Integer[ArrayLike, "*B"]
Labels = HardLabels | Float[ArrayLike, "*B K"]
"""Classes, or a distribution over them in each row."""

Coefficient = Real[ArrayLike, ""] | Real[ArrayLike, "*B"]
"""One for all examples, or one for each."""

PerExample = Float[jax.Array, "*B"]
Distributions = Float[jax.Array, "*B K"]

# An attack takes images of any shape behind B.
Given = jax.Array | np.ndarray
CleanImages = Float[Given, "B *image"]
ImageClasses = Integer[Given, "B"]
ImageLabels = ImageClasses | Float[Given, "B K"]

Images = Float[jax.Array, "B *image"]
PerImage = Float[jax.Array, "B"]
CountPerImage = Int32[jax.Array, "B"]
TruthPerImage = Bool[jax.Array, "B"]
