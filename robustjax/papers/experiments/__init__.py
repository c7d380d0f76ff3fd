"""The papers' experiments that no flag file can say, each with its table and figure.

Everything that training and evaluation can do by flags stands in `launch/` as a flag file.
"""
