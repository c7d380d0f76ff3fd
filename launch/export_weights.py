"""Runs `robustjax.cli.export_weights`; see --help."""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.realpath(__file__))))

from robustjax.cli.start import run

if __name__ == "__main__":
    run("export_weights")
