"""The AutoAttack ensemble: its stages, its state file, its warnings, and the check of its images.

The attacks that it runs are in `attacks`, and how their rows are filled in `attacks.engine`.
"""
