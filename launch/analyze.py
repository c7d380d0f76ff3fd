"""Runs `robustjax.cli.analyze`; see --help."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from robustjax.cli.start import run

if __name__ == "__main__":
    run("analyze")
