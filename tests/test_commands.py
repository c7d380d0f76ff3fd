"""Every command of README and docs: it parses as it stands, and it runs at a reduced size."""

import dataclasses
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from absl import flags

from robustjax import evaluation, installed, own_code, training
from robustjax.cli import app
from robustjax.flags import config_from_flags
from tests.commands import COMMANDS

ROOT = Path(__file__).parents[1]
PAGES = ["README.md", *(str(path.relative_to(ROOT)) for path in sorted(ROOT.glob("docs/*.md")))]

TRAINED = [
    "--model=tiny.parts:build", "--dataset=npz", "--data_dir=tiny.npz", "--augmentation=none",
    "--batch_size=8", "--epochs=1", "--steps=1", "--holdout=4", "--optimizer=sgd",
    "--schedule=constant", "--warmup_epochs=0", "--epsilon_warmup_epochs=0", "--measure_steps=1",
    "--measure_examples=4", "--devices=1", "--cpu_devices=0", "--precision=float32",
    "--train_examples=0",
]  # fmt: skip
FEW = ["--examples=4", "--batch_size=4", "--data_dir=tiny.npz"]

REDUCED = {
    "train": TRAINED,
    "evaluate": [*FEW, "--model=tiny.parts:build"],
    "verify": ["--model=tiny.parts:build"],
    "diagnose": [
        *FEW, "--model=tiny.parts:build", "--steps=1,4", "--attack_steps=4", "--restarts=2",
        "--queries=20", "--random_points=3",
    ],
    "transfer": FEW,
    "analyze": ["--examples=4"],
    "sweep": [*TRAINED, "--attack_batch_size=4", "--examples=4"],
}  # fmt: skip
"""What is added behind a command's own flags, where the last one wins."""

ELSEWHERE = {
    "prepare_data": "downloads; tests/data/test_prepare.py",
    "reproduce": "tests/cli/test_reproduce.py and tests/papers/test_items.py",
    "experiment": "tests/papers/experiments",
    "import_weights": "of wide networks; tests/cli/test_import_weights.py",
}

SOURCE = """
import flax.linen as nn
import jax.numpy as jnp

from robustjax import losses, methods


class Layer(nn.Module):
    num_classes: int = 10

    @nn.compact
    def __call__(self, images, *, train=False, batch_statistics=None):
        return nn.Dense(self.num_classes, name="dense")(images.reshape(len(images), -1))


def build(num_classes=10):
    return Layer(num_classes)


def create(*, weight=1.0):
    return methods.create("standard")


def unsure(clean_logits, adversarial_logits, labels):
    return losses.cross_entropy(adversarial_logits, labels)


def corner(key, logits_fn, images, labels, threat):
    return threat.project(1 - images, images)
"""


def commands(page):
    """The command lines of a page's blocks, with their continuations, as lists of words."""
    text = (ROOT / page).read_text()
    found, variables = [], {}
    for block in re.findall(r"(?ms)^```(?:sh)?\n(.*?)^```", text):
        block = block.replace("\\\n", " ")
        for name, value in re.findall(r'(?ms)^([A-Z]+)="(.*?)"', block):
            variables[f"${name}"] = value
        for line in re.findall(r"(?m)^python (launch/.*)$", block):
            for name, value in variables.items():
                line = line.replace(name, value)
            found.append(shlex.split(line, comments=True))
    return found


def parsed(program, arguments):
    values = flags.FlagValues()
    if program == "experiment":
        return None
    COMMANDS[program][1](values)
    values([program, *arguments])
    return values


@pytest.mark.parametrize("page", PAGES)
def test_every_command_parses_as_it_stands(page, monkeypatch):
    monkeypatch.chdir(ROOT)
    for file, *arguments in commands(page):
        program = Path(file).stem
        assert (ROOT / file).exists() and program in COMMANDS, file
        values = parsed(program, arguments)
        if program == "train":
            config = config_from_flags(values)
            if "mine." not in " ".join(arguments):
                training.check_experiment(dataclasses.replace(config, log=()))
        for attack in (values["attacks"].value or ()) if values and "attacks" in values else ():
            if not own_code.is_own(attack):
                evaluation.parse_attack(attack)


def test_there_are_commands_and_what_is_run_elsewhere_is_a_launcher():
    assert set(COMMANDS) == set(installed.COMMANDS)
    assert len(commands("README.md")) > 20 and len(commands("docs/index.md")) == 3
    assert set(ELSEWHERE) | set(REDUCED) <= set(COMMANDS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A working directory with images, a network of one's own, and what README's runs are."""
    place = tmp_path_factory.mktemp("commands")
    (place / "launch").symlink_to(ROOT / "launch")
    for name in ("tiny", "mine"):
        (place / name).mkdir()
        (place / name / "__init__.py").write_text("")
    (place / "tiny" / "parts.py").write_text(SOURCE)
    for name in ("nets", "methods", "losses", "attacks"):
        (place / "mine" / f"{name}.py").write_text("from tiny.parts import *\n")
    (place / "mine" / "logs.py").write_text("def create(run):\n    return print\n")
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (20, 4, 4, 1), np.uint8)
    labels = np.arange(20) % 10
    arrays = {"images": images, "labels": labels, "test_images": images, "test_labels": labels}
    np.savez(place / "tiny.npz", **arrays)
    return place


@pytest.fixture
def launch(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", [*sys.path, str(folder)])

    def run(program, *arguments):
        command, define = COMMANDS[program]
        values, before = flags.FLAGS, set(flags.FLAGS)
        try:
            with pytest.raises(SystemExit) as end:
                app.run(
                    command._main,
                    lambda: define(values),
                    description="",
                    groups={},
                    arguments=arguments,
                )
        finally:
            for name in set(values) - before:
                delattr(values, name)
            values.unparse_flags()
        said = capsys.readouterr()
        assert end.value.code == 0, (program, arguments, said.err[-2000:])

    return run


def made_small(program, arguments):
    """The arguments with cheaper attacks and fewer values, and what reduces the rest."""
    cheaper = []
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if name in ("--attacks", "--attack"):
            value = value.replace("autoattack", "apgd-ce").replace("-40", "-2")
            value = value.replace("-20", "-2").replace("-30", "-2")
        if name == "--grid":
            value = ";".join(value.split(";")[:2])
            value = ",".join(value.split(",")[:2])
        if name == "--seeds":
            value = "0"
        if name == "--log":
            value = value.replace("tensorboard,", "")
        if name == "--workdir":
            value = value.replace("DIR", "runs/own")
        cheaper.append(name + equals + value)
    # The papers have none for images of one's own; tests/cli/test_evaluate.py runs one.
    cheaper = ["--attacks=clean" if part.startswith("--protocol=") else part for part in cheaper]
    return [*cheaper, *REDUCED.get(program, ())]


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_every_command_runs_at_a_reduced_size(page, launch, folder):
    shutil.rmtree(folder / "runs", ignore_errors=True)
    launch("train", "--method=trades", "--workdir=runs/trades", *TRAINED)
    for name in ("standard", "mart", "nap", "own", "theirs"):
        shutil.copytree(folder / "runs" / "trades", folder / "runs" / name)
    for number, (file, *arguments) in enumerate(commands(page)):
        program = Path(file).stem
        if program in ELSEWHERE or any("--weights=FILE" in argument for argument in arguments):
            continue
        if program == "train" and any("--workdir" in argument for argument in arguments):
            # A run of its own: the folder of that name is there for what follows.
            arguments = [a for a in arguments if not a.startswith("--workdir")]
        if program == "train":
            arguments.append(f"--workdir=runs/trained_{number}")
        if program == "evaluate":
            for name in re.findall(r"--workdir=(runs/\w+)", " ".join(arguments)):
                if not (folder / name).exists():
                    shutil.copytree(folder / "runs" / "trades", folder / name)
        launch(program, *made_small(program, arguments))


@pytest.mark.slow
@pytest.mark.parametrize("number", range(3))
def test_the_programs_of_the_plan_run_with_fewer_images(number, tmp_path):
    text = (ROOT / "docs" / "scaling.md").read_text()
    programs = re.findall(r"(?s)python -c \"(.*?)\"\n", text)
    programs += re.findall(r"(?s)python - <<'TEXT'\n(.*?)\nTEXT\n", text)
    assert len(programs) == 3
    smaller = programs[number]
    for large, small in (
        ("50_000_000", "5_000"), ("149_000", "1_490"), ("49_000", "490"), ("100_000", "1_000"),
        ("512, 512", "8, 8"),
    ):  # fmt: skip
        smaller = smaller.replace(large, small)
    found = subprocess.run(
        [sys.executable, "-c", smaller], cwd=tmp_path, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert found.returncode == 0, found.stderr[-2000:]
