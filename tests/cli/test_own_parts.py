"""The command line takes a user's own code from the working directory, and from no file."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

SOURCE = """
import flax.linen as nn
from mine import helpers  # lies beside it


class Layer(nn.Module):
    num_classes: int = 10

    @nn.compact
    def __call__(self, images, *, train=False):
        return nn.Dense(self.num_classes)(helpers.flat(images))


def build(num_classes=10):
    return Layer(num_classes)


def attack(key, logits_fn, images, labels, threat):
    return threat.project(1 - images, images)
"""

SMALL = [
    "--dataset=digits",
    "--augmentation=none",
    "--epochs=1",
    "--batch_size=64",
    "--train_examples=128",
    "--holdout=0",
    "--steps=1",
    "--epsilon=0.1",
    "--measure_steps=1",
    "--measure_examples=16",
    "--devices=1",
]


@pytest.fixture
def launch(tmp_path):
    package = tmp_path / "mine"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "parts.py").write_text(SOURCE)
    (package / "helpers.py").write_text("def flat(x):\n    return x.reshape(len(x), -1)\n")

    def run(command, *arguments):
        environment = {**os.environ, "PYTHONPATH": ""}
        return subprocess.run(
            [sys.executable, ROOT / "launch" / f"{command}.py", *arguments],
            capture_output=True,
            text=True,
            env=environment,
            cwd=tmp_path,
        )

    return run


@pytest.mark.slow
def test_a_run_with_a_network_of_one_s_own_from_training_to_evaluation(launch, tmp_path):
    trained = launch("train", "--model=mine.parts:build", *SMALL, "--workdir=run")
    assert trained.returncode == 0, trained.stderr

    attacks = "--attacks=clean,mine.parts:attack"
    unnamed = launch("evaluate", "--workdir=run", attacks, "--examples=32")
    assert unnamed.returncode == 1
    assert unnamed.stderr.startswith(
        "error: --model=mine.parts:build is code that a file names, and code is run only where you "
        "name it yourself: add --model=mine.parts:build to the command line"
    )
    named = launch(
        "evaluate", "--workdir=run", "--model=mine.parts:build", attacks, "--examples=32"
    )
    assert named.returncode == 0, named.stderr
    assert "mine.parts:attack" in named.stdout
    clean = ("--model=mine.parts:build", "--attacks=clean", "--examples=32")
    again = launch("evaluate", "--workdir=run", *clean)
    assert "clean: it is there" in again.stderr
    helpers = tmp_path / "mine" / "helpers.py"
    helpers.write_text("def flat(x):\n    return 1 - x.reshape(len(x), -1)\n")
    changed = launch("evaluate", "--workdir=run", *clean)
    assert changed.returncode == 0 and "it is there" not in changed.stderr


def test_a_flag_file_names_no_code(launch, tmp_path):
    (tmp_path / "some.flags").write_text("--model=mine.parts:build\n")
    found = launch("train", "--flagfile=some.flags", *SMALL, "--workdir=run")
    assert found.returncode == 1
    assert "--model=mine.parts:build is code that a file names" in found.stderr
    assert not (tmp_path / "run").exists()
