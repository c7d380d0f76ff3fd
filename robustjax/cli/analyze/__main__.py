"""`python -m robustjax.cli.analyze`: as launch/analyze.py, for commands that start it."""

from robustjax.cli.analyze.command import main
from robustjax.cli.start import forget_working_directory

if __name__ == "__main__":
    forget_working_directory()
    main()
