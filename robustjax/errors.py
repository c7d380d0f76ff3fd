"""The error that is meant for whoever called: raised on purpose, and worth reading by itself."""


class UserError(ValueError):
    """What was asked for is not accepted, or cannot be done; the text says what would be.

    The launchers show its text alone. Whatever else is raised is a mistake of ours, and keeps its
    traceback; errors of the system (`OSError`: a full disk, a folder that may not be written) are
    shown as theirs.
    """
