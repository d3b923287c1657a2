"""`python -m training.bench`: see `training.bench.command`."""

from training.bench.command import main

__all__: list[str] = []

if __name__ == "__main__":
    main()
