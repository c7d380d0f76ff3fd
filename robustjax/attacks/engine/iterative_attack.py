"""What an iterative attack is to the engine that runs it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import jax
import numpy as np


class IterativeAttack(Protocol):
    """The parts of an attack. Hashable: two equal attacks are one program.

    `model` is a callable on rows' images, whatever the attack needs of the network (often loss and
    gradient); `inputs` a pytree of arrays; `rows` a pytree with a bool `[B]` leaf named `active`,
    of one structure throughout; `kept` is what outlives a restart.
    """

    def __hash__(self) -> int: ...

    def nothing_kept(self, inputs: Any) -> Any:
        """What is kept before the first of several restarts; unused with one."""
        ...

    def start(self, inputs: Any, kept: Any, restart: jax.Array | np.int32) -> Any:
        """The rows at the start of a restart; `kept` is None if there is only one."""
        ...

    def step(self, model: Callable[..., Any], rows: Any) -> Any:
        """The rows after one step; inactive rows do not move."""
        ...

    def result(self, model: Callable[..., Any], rows: Any, kept: Any) -> Any:
        """What is kept after a restart."""
        ...
