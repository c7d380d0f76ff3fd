"""The list of experiments, their settings as text, what a run leaves, and the launcher."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from robustjax.papers.experiments import registry

ROOT = Path(__file__).resolve().parents[3]
FEW = "num_samples=1000"


def call(*arguments):
    return subprocess.run(
        [sys.executable, "launch/experiment.py", *arguments],
        cwd=ROOT,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.parametrize("name", registry.names())
def test_every_experiment_has_settings_that_can_be_given_as_text(name):
    defaults = registry.settings(name)
    assert defaults.__dataclass_params__.frozen
    for key, value in dataclasses.asdict(defaults).items():
        assert type(value) in (int, float, str, bool)
        assert registry.settings(name, [f"{key}={value}"]) == defaults
    described = registry.describe()
    assert all(f"{key}=" in described for key in dataclasses.asdict(defaults))
    assert f"\n{name} " in "\n" + described


def test_settings_are_read_as_the_type_that_they_have():
    found = registry.settings("sense_examples", ["epsilon=1/32", "seed=3"])
    assert (found.epsilon, found.seed, found.p) == (1 / 32, 3, 0.7)
    found = registry.settings("sense_three_clusters", ["m=5", "gradient=mean"])
    assert type(found.m) is float and found.m == 5 and found.gradient == "mean"


@pytest.mark.parametrize(
    ("name", "assignment", "message"),
    [
        ("sense_example", FEW, "did you mean 'sense_examples'"),
        (
            "sense_examples",
            "alpha=1",
            "'alpha=1' sets nothing of sense_examples.*num_samples=VALUE",
        ),
        ("sense_examples", "seed", "sets nothing"),
        ("sense_examples", "seed=0.5", "seed=0.5: accepted is a whole number"),
        ("sense_examples", "p=true", "p=true: accepted is a number"),
        ("sense_examples", "p=0.3", "p is 0.3"),
    ],
)
def test_mistakes_are_named(name, assignment, message):
    with pytest.raises(ValueError, match=message):
        registry.settings(name, [assignment])


def test_a_run_leaves_its_numbers_its_table_and_nothing_half_written(tmp_path):
    chosen = registry.settings("sense_examples", [FEW])
    output = tmp_path / "new" / "folder"
    summary = registry.run("sense_examples", chosen, output, lambda line: None)
    written = json.loads((output / "sense_examples.json").read_text())
    assert written == json.loads(json.dumps(summary))
    assert written["settings"] == dataclasses.asdict(chosen)
    assert "jax" in written["versions"]
    page = (output / "sense_examples.md").read_text()
    assert page.startswith("# SENSE") and "num_samples 1000" in page
    assert not list(output.glob("*.partial"))


def test_the_launcher_lists_runs_and_says_what_is_missing(tmp_path):
    listed = call("--name=help")
    assert listed.returncode == 0
    assert all(name in listed.stdout for name in registry.names())
    ran = call("--name=sense_examples", f"--output={tmp_path}", f"--set={FEW}", "--set=seed=4")
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout == (tmp_path / "sense_examples.md").read_text()
    missing = call("--name=sense_examples")
    assert missing.returncode == 1 and "--output is not given" in missing.stderr
    assert "Traceback" not in missing.stderr
