"""How robustjax is packaged; the requirements are listed in requirements.txt alone."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).resolve().parent


def read_version() -> str:
    """Returns `__version__` without importing the package, whose dependencies are not there yet."""
    source = (ROOT / "robustjax" / "__init__.py").read_text(encoding="utf-8")
    return re.search(r'^__version__ = "([^"]+)"$', source, re.MULTILINE).group(1)


def read_requirements() -> tuple[list[str], list[str]]:
    """Returns the requirements of the library and, apart from them, those of its tests."""
    text = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    library, tests = text.split("# Tests:\n")
    return _requirement_lines(library), _requirement_lines(tests)


def _requirement_lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line and not line.startswith("#")]


library_requirements, test_requirements = read_requirements()

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
    package_data={"robustjax": ["py.typed"], "robustjax.reports.html": ["templates/*"]},
    install_requires=library_requirements,
    extras_require={
        "test": test_requirements,
        "dev": [*test_requirements, "build>=1.2"],
        # Training on sets of images larger than memory, --stream.
        "data": ["grain>=0.2.12"],
        # Where epochs are logged to besides metrics.jsonl: --log=tensorboard, --log=wandb.
        "tensorboard": ["tensorboardX>=2.6.4"],
        "wandb": ["wandb>=0.21"],
        # The site of make docs.
        "docs": ["mkdocs-material>=9.6", "mkdocstrings[python]>=1.0"],
        # jax has one extra for each CUDA version; 12 runs on the older drivers too.
        "cuda": ["jax[cuda12]>=0.10.1"],
        "cuda13": ["jax[cuda13]>=0.10.1"],
        # The workers of a pod share one --workdir, which is a gs:// bucket.
        "tpu": ["jax[tpu]>=0.10.1", "etils[epath-gcs]>=1.13"],
    },
)
