"""`python -m training.stress`: see `training.stress.command`."""

from training.stress.command import main

__all__: list[str] = []

if __name__ == "__main__":
    main()
