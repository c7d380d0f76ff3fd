"""Where on the disk."""

import os
from pathlib import Path


def cache_directory() -> Path:
    """$ROBUSTJAX_CACHE, else robustjax in $XDG_CACHE_HOME, else ~/.cache/robustjax."""
    chosen = os.environ.get("ROBUSTJAX_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path("~/.cache").expanduser()) / "robustjax"
