"""The contract's tests for what users bring: each raises with the first rule that is broken.

`check_method(method)` and the others run in seconds on a CPU, in a test of your own or a notebook.
Nothing here trains, and nothing of the library needs it.
"""

from robustjax.testing.attack_rules import check_attack
from robustjax.testing.broken_rule import BrokenRule
from robustjax.testing.loss_rules import check_loss
from robustjax.testing.method_rules import check_method
from robustjax.testing.model_rules import check_model

__all__ = ["BrokenRule", "check_attack", "check_loss", "check_method", "check_model"]
