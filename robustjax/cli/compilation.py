"""Keeps compiled programs on the disk, so that a second start does not compile again."""

import os

import jax

from robustjax.data.prepared.cache import cache_directory


def enable_cache() -> None:
    """Turns JAX's persistent compilation cache on, unless JAX_COMPILATION_CACHE_DIR is set."""
    if not os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        jax.config.update("jax_compilation_cache_dir", str(cache_directory() / "xla"))
