"""Where on the disk."""

import os
from pathlib import Path


def cache_directory() -> Path:
    """$ROBUSTJAX_CACHE, else robustjax in $XDG_CACHE_HOME, else ~/.cache/robustjax.

    Raises:
      FileNotFoundError: neither variable is set, and the user has no home.
    """
    chosen = os.environ.get("ROBUSTJAX_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    if base.startswith("~"):
        raise FileNotFoundError("the user has no home folder; ROBUSTJAX_CACHE names one for caches")
    return Path(base) / "robustjax"
