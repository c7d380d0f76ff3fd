"""Small experiments of the papers that need no image data: one file each, listed in `registry`."""
