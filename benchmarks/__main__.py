"""`python -m benchmarks NAME`: runs one benchmark; see --help."""

from benchmarks.command import main

if __name__ == "__main__":
    main()
