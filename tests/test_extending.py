"""docs/extending.md is run as it stands: what it says of adding parts is true."""

import doctest
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "extending.md"


def test_every_example_of_the_page_runs(tmp_path):
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    assert len(blocks) == 9
    script = tmp_path / "page.py"
    script.write_text("\n".join([*blocks, "import doctest\n", "print(doctest.testmod())\n"]))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    found = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, env=environment, cwd=tmp_path
    )
    assert found.returncode == 0, found.stderr[-3000:]
    *_, accuracy, tested = found.stdout.strip().splitlines()
    assert "two-losses(steps=5)" in accuracy
    assert tested == str(doctest.TestResults(failed=0, attempted=3))
