"""One way to check an argument, and to say what is wrong with it: "name=value: accepted are ...".

`values` has names, choices and numbers and imports no jax; what it has is here too. `arrays` has
what arrays must be, shapes, dtypes and values. What is a threat model, a stop rule or a start is
checked where those are.
"""

from robustjax.arguments.values import (
    LARGEST_COUNT,
    LARGEST_FLOAT32,
    LARGEST_SEED,
    MOST_CPU_DEVICES,
    checked_count,
    checked_function,
    checked_number,
    did_you_mean,
    is_finite,
    is_number,
    is_whole,
    kind,
    nearest,
    plain,
    refusal,
    require_choice,
    require_finite,
    require_free_name,
    require_truth,
    require_whole,
    shown,
    unknown_flag,
)

__all__ = [
    "LARGEST_COUNT",
    "LARGEST_FLOAT32",
    "LARGEST_SEED",
    "MOST_CPU_DEVICES",
    "checked_count",
    "checked_function",
    "checked_number",
    "did_you_mean",
    "is_finite",
    "is_number",
    "is_whole",
    "kind",
    "nearest",
    "plain",
    "refusal",
    "require_choice",
    "require_finite",
    "require_free_name",
    "require_truth",
    "require_whole",
    "shown",
    "unknown_flag",
]
