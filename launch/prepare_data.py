"""Download and prepare a data set: `python launch/prepare_data.py --dataset=cifar10`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from robustjax.cli.prepare_data import main

if __name__ == "__main__":
    main()
