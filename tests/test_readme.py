"""The README's snippet runs, and the files that it names are there."""

import re
from pathlib import Path

import numpy as np

from robustjax import attacks, methods

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "README.md").read_text()


def test_the_snippet_for_notebooks_runs():
    (snippet,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    names = {}
    exec(snippet, names)
    assert names["loss"].shape == (2,)
    assert np.all(np.isfinite(names["loss"]))
    assert np.all(np.abs(names["result"].images - names["images"]) <= 8 / 255 + 1e-6)


def test_every_method_and_attack_is_listed():
    table = {
        name for row in re.findall(r"(?m)^\| .* \|$", TEXT) for name in re.findall(r"`(\w+)`", row)
    }
    assert set(methods.names()) <= table
    (taken,) = re.findall(r"`--attacks` takes any of (.*?); settings", TEXT, re.DOTALL)
    listed = {name.partition("-K")[0].partition("-N")[0] for name in re.findall(r"`(\S+)`", taken)}
    assert set(attacks.names()) <= listed


def test_what_it_names_exists():
    for path in re.findall(r"`((?:robustjax|launch)/[\w./]+)`", TEXT):
        assert (ROOT / path).exists(), path
    for path in re.findall(r"\]\(([\w./]+)\)", TEXT):
        assert (ROOT / path).exists(), path
    for path in re.findall(r"--flagfile=(launch/\w+\.flags)", TEXT):
        assert (ROOT / path).exists(), path


def test_every_flag_it_names_exists():
    from absl import flags

    from robustjax.cli import diagnose, experiment, figures, report, transfer, verify
    from robustjax.cli.analyze import command as analyze
    from robustjax.cli.evaluate import command as evaluate
    from robustjax.cli.export_weights import command as export_weights
    from robustjax.cli.import_weights import command as import_weights
    from robustjax.cli.reproduce import command as reproduce
    from robustjax.cli.sweep import command as sweep
    from robustjax.flags import define_flags

    values = flags.FlagValues()
    define_flags(values)
    known = set(values) | {"flagfile", "help", "workdir"}
    modules = (
        analyze, diagnose, evaluate, experiment, export_weights, figures, import_weights, report,
        reproduce, transfer, verify,
    )  # fmt: skip
    for groups in (*(module.GROUPS for module in modules), sweep.OWN_GROUPS):
        known |= {name for group in groups.values() for name in group}
    named = set(re.findall(r"(?<![\w-])--(\w+)", TEXT))
    assert named <= known, named - known


def test_it_counts_the_methods_and_has_the_address_of_the_site():
    own_steps = {"fast", "free"}
    without = {name for name in methods.names() if not methods.create(name).goes_by} - own_steps
    assert len(without) == 3
    counted = f"{len(methods.names())} methods, three of them without an attack"
    assert f"| adversarial training | {counted} |" in TEXT
    (address,) = re.findall(r"(?m)^repo_url: (\S+)$", (ROOT / "mkdocs.yml").read_text())
    assert f"git clone {address} " in TEXT
    assert f"git clone {address}\n" in (ROOT / "docs" / "index.md").read_text()
