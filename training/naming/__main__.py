"""`python -m training.naming`: what `kpstream models extend` runs."""

from training.naming.command import extend

__all__: list[str] = []

if __name__ == "__main__":
    extend(prog_name="kpstream models extend")
