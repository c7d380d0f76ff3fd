"""A progress bar with the time left, where there is a terminal to draw it on."""

import os
from typing import Any, TextIO

from tqdm import tqdm


def terminal_bar(stream: TextIO, **options: Any) -> tqdm | None:
    """A bar on a terminal; None if the stream is no terminal.

    Args:
      stream: what to draw on.
      **options: of `tqdm`.
    """
    if not stream.isatty():
        return None
    try:
        has_size = min(os.get_terminal_size(stream.fileno())) > 0
    except (OSError, ValueError):
        has_size = False
    # A terminal that does not know its size, as under a recorder, would hide the bar.
    size = {"dynamic_ncols": True} if has_size else {"ncols": 80, "nrows": 24}
    return tqdm(file=stream, **size, **options)
