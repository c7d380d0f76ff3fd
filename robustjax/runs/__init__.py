"""What a run leaves on the disk: flags, log, checkpoints, records, what is unfinished, and locks.

Files are written and read here, by their names; what is in them is computed elsewhere: weights in
`training`, scores in `evaluation`, pages in `reports`.
"""

from robustjax.runs.evaluations import Evaluations, Record, Selection
from robustjax.runs.lock import Lock, Locked

__all__ = ["Evaluations", "Lock", "Locked", "Record", "Selection"]
