"""Data sets in the files that torchvision has downloaded, read where they lie.

`torchvision_files` knows its folders, `pickled_data` reads CIFAR's without unpickling. Folders of
image files are `image_folder`'s; IDX and MATLAB files are read by `prepared.originals`.
"""

from robustjax.data.torchvision.torchvision_files import NAMES, find_torchvision, load_torchvision

__all__ = ["NAMES", "find_torchvision", "load_torchvision"]
