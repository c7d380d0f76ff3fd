"""The notebooks run from top to bottom, hold no outputs, and open in Colab."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
REPOSITORY = re.search(
    r"(?m)^repo_url: https://github.com/(.*)$", (ROOT / "mkdocs.yml").read_text()
)

# What shows HTML and pictures in a notebook need not be installed where they are only run.
SHOWN = """
import importlib.util, sys, types
if importlib.util.find_spec("IPython") is None:
    display = types.SimpleNamespace(HTML=str, Image=str, display=lambda *shown: None)
    shell = types.SimpleNamespace(
        display=display, get_ipython=lambda: None, version_info=(9, 0)
    )
    sys.modules |= {"IPython": shell, "IPython.display": display}
"""


def cells(path, kind):
    book = json.loads(path.read_text())
    return ["".join(cell["source"]) for cell in book["cells"] if cell["cell_type"] == kind]


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request):
    return request.param


def test_there_are_no_outputs(notebook):
    book = json.loads(notebook.read_text())
    assert (book["nbformat"], book["nbformat_minor"]) == (4, 5)
    assert len({cell["id"] for cell in book["cells"]}) == len(book["cells"])
    for cell in book["cells"]:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == [] and cell["execution_count"] is None


def test_it_opens_in_colab_and_installs_the_library_there(notebook):
    place = f"{REPOSITORY[1]}/blob/main/notebooks/{notebook.name}"
    assert f"](https://colab.research.google.com/github/{place})" in cells(notebook, "markdown")[0]
    assert f'"git+https://github.com/{REPOSITORY[1]}"' in cells(notebook, "code")[0]


def test_each_leads_to_the_next_and_all_are_on_the_page_of_notebooks():
    page = (ROOT / "docs" / "notebooks.md").read_text()
    for notebook, following in zip(NOTEBOOKS, [*NOTEBOOKS[1:], None], strict=True):
        assert f"(../notebooks/{notebook.name})" in page
        linked = re.findall(r"\]\((\w+\.ipynb)\)", "".join(cells(notebook, "markdown")))
        assert linked == ([following.name] if following else [])


def test_it_runs(notebook, tmp_path):
    script = tmp_path / "notebook.py"
    script.write_text("\n\n".join([SHOWN, *cells(notebook, "code")]))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    environment |= {"MPLBACKEND": "agg", "TMPDIR": str(tmp_path)}
    found = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, env=environment, cwd=tmp_path
    )
    assert found.returncode == 0, found.stderr[-3000:]
    for line in EXPECTED.get(notebook.stem, ()):
        assert re.search(line, found.stdout), found.stdout


# What the text beside the cells says of what comes out.
EXPECTED = {
    "1_losses_and_attacks": [r"clean accuracy 9\d\.\d %"],
    "4_evaluation": [r"TRADES — suspicious: nothing", r"sharpened — suspicious: \w"],
}
