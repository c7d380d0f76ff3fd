"""The command lines: flags in, library call out."""
