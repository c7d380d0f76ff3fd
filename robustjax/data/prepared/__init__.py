"""Data sets that were prepared for `tfds.data_source`: made, read without TensorFlow, and kept.

Code is never imported because a file names it: see `feature_classes`. Data sets of other forms are
beside this folder, and `sources` chooses among all of them.
"""
