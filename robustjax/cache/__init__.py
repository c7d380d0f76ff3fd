"""What can be made again is kept on the disk: decoded data sets, and compiled programs.

`directory` says where. Data sets are kept by `data.prepared`, programs by JAX's own cache, which
`compiled_programs` turns on.
"""

from robustjax.cache.compiled_programs import enable_compilation_cache
from robustjax.cache.directory import cache_directory

__all__ = ["cache_directory", "enable_compilation_cache"]
