"""`python -m training.starters`: see `training.starters.build`."""

from training.starters.build import main

__all__: list[str] = []

if __name__ == "__main__":
    main()
