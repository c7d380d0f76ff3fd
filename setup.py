"""How robustjax is packaged; the requirements are listed in requirements.txt alone."""

import re
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
LAUNCH = ROOT / "launch"


def read_version() -> str:
    """Returns `__version__` without importing the package, whose dependencies are not there yet."""
    source = (ROOT / "robustjax" / "__init__.py").read_text(encoding="utf-8")
    return re.search(r'^__version__ = "([^"]+)"$', source, re.MULTILINE).group(1)


def read_requirements() -> dict[str, list[str]]:
    """Returns what stands under each heading of requirements.txt: "core", and the extras."""
    text = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    _, *parts = re.split(r"(?m)^# ([a-z]+): .*$", text)
    return {
        name: [line for line in lines.splitlines() if line and not line.startswith("#")]
        for name, lines in zip(parts[::2], parts[1::2], strict=True)
    }


class BuildWithFlagFiles(build_py):
    """Copies the flag files of launch/ into the package; an editable install reads them there."""

    def run(self) -> None:
        """Builds as setuptools does, and then copies."""
        super().run()
        if self.editable_mode:
            return
        for path in sorted(LAUNCH.rglob("*.flags")):
            target = Path(self.build_lib, "robustjax", "flag_files", path.relative_to(LAUNCH))
            self.mkpath(str(target.parent))
            self.copy_file(str(path), str(target))


requirements = read_requirements()
data, figures = requirements["data"], requirements["figures"]
test = [*data, *figures, *requirements["test"]]
torch, tensorboard = ["torch>=2.6"], ["tensorboardX>=2.6.4"]
stream = ["grain>=0.2.12", "pyarrow>=15"]

setup(
    name="robustjax",
    version=read_version(),
    description="Pure-functional adversarial training in JAX and Flax",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author="The robustjax developers",
    license="Apache-2.0",
    license_files=["LICENSE"],
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Science/Research",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
    python_requires=">=3.11",
    packages=find_packages(include=["robustjax", "robustjax.*"]),
    package_data={
        "robustjax": ["py.typed"],
        "robustjax.cli": ["help/*.txt"],
        "robustjax.reports.html": ["templates/*"],
    },
    cmdclass={"build_py": BuildWithFlagFiles},
    entry_points={"console_scripts": ["robustjax = robustjax.__main__:main"]},
    install_requires=requirements["core"],
    extras_require={
        "data": data,
        "figures": figures,
        # Reads weights in .pt files; those in .safetensors need nothing.
        "torch": torch,
        # Where epochs are logged to besides metrics.jsonl: --log=tensorboard, --log=wandb.
        "tensorboard": tensorboard,
        "wandb": ["wandb>=0.21"],
        # The site of make docs, and its figures.
        "docs": [*figures, "mkdocs-material>=9.6", "mkdocstrings[python]>=1.0"],
        "all": [*data, *stream, *figures, *torch, *tensorboard],
        # Training on sets larger than memory (--stream), and Hugging Face's files.
        "stream": stream,
        "test": test,
        "dev": [*test, "build>=1.2"],
        # jax has one extra for each CUDA version; 12 runs on the older drivers too.
        "cuda": ["jax[cuda12]>=0.10.1"],
        "cuda13": ["jax[cuda13]>=0.10.1"],
        # The workers of a pod share one --workdir, which is a gs:// bucket.
        "tpu": ["jax[tpu]>=0.10.1", "etils[epath-gcs]>=1.13"],
    },
)
