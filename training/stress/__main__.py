"""`python -m training.stress`: what `kpstream models stress` runs."""

from training.stress.command import main

__all__: list[str] = []

if __name__ == "__main__":
    main(prog_name="kpstream models stress")
