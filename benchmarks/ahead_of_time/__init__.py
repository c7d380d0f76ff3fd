"""The train step compiled for machines that are not there; `benchmarks.pods` is the command."""
