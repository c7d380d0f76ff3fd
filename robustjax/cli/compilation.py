"""Keeps compiled programs on the disk, so that a second start does not compile again."""

import os

import jax

from robustjax.data.prepared.cache import cache_directory


def enable_cache() -> None:
    """Turns JAX's persistent compilation cache on, where its own variables do not say otherwise.

    JAX keeps what took a second to compile. A start also compiles a dozen small programs, which are
    read in a fraction of the time.
    """
    if not os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        jax.config.update("jax_compilation_cache_dir", str(cache_directory() / "xla"))
    if not os.environ.get("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"):
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
