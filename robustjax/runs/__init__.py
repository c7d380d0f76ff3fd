"""What a run leaves on the disk: the records of its evaluations, and a lock on its folder."""

from robustjax.runs.evaluations import Evaluations, Record, Selection
from robustjax.runs.lock import Lock, Locked

__all__ = ["Evaluations", "Lock", "Locked", "Record", "Selection"]
