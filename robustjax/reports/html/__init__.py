"""The report as one HTML page: Python prepares plain values, the templates draw them.

A section is a file; it reads nothing, for the files of a run are read by `runs.folder`. All markup
is in `templates`, where whatever comes from a file is escaped.
"""
