"""The report as one HTML page: its sections, one a file, and the elements that they are made of.

What the sections show is read by `runs.folder`, and put into words in `reports`.
"""
