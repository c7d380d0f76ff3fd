"""Figures as PNGs, one kind a file, most with their numbers in a .csv beside them.

They draw what they are given: the numbers come from `analysis`, `diagnosis`, and the files of runs.
"""
