"""Keeps compiled programs on the disk, so that a second start does not compile again."""

import os

import jax

from robustjax.cache.directory import cache_directory

_SECONDS = "jax_persistent_cache_min_compile_time_secs"
_JAX_SECONDS = 1.0
"""What JAX has there where nobody has set it."""


def enable_compilation_cache() -> None:
    """Turns JAX's persistent compilation cache on, where nobody has said otherwise.

    Somebody has if JAX_COMPILATION_CACHE_DIR or `jax_compilation_cache_dir` names a folder, or if
    JAX_ENABLE_COMPILATION_CACHE is false. Where there is no folder for it, it stays off. Of its own
    accord JAX keeps what took a second to compile; where no variable and no program has set another
    time, all is kept here: a start compiles a dozen small programs, which are read in a fraction of
    the time.
    """
    if jax.config.jax_compilation_cache_dir is not None:  # type: ignore[attr-defined]
        return
    try:
        folder = cache_directory() / "xla"
    except FileNotFoundError:
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))
    if not os.environ.get(_SECONDS.upper()) and getattr(jax.config, _SECONDS) == _JAX_SECONDS:
        jax.config.update(_SECONDS, 0.0)
