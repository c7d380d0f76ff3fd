"""The command lines: flags in, library call out.

One file, or one folder, a command. What a command does is in the library; only here are there
flags, bars of progress and exit codes.
"""
