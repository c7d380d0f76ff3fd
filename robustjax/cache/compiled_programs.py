"""Keeps compiled programs on the disk, so that a second start does not compile again."""

import os

import jax

from robustjax.cache.directory import cache_directory


def enable_compilation_cache() -> None:
    """Turns JAX's persistent compilation cache on, where nobody has said otherwise.

    Somebody has if JAX_COMPILATION_CACHE_DIR or `jax_compilation_cache_dir` names a folder, or if
    JAX_ENABLE_COMPILATION_CACHE is false. Where there is no folder for it, it stays off. JAX keeps
    what took a second to compile. A start also compiles a dozen small programs, which are read in a
    fraction of the time.
    """
    if jax.config.jax_compilation_cache_dir is not None:  # type: ignore[attr-defined]
        return
    try:
        folder = cache_directory() / "xla"
    except FileNotFoundError:
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))
    if not os.environ.get("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"):
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
