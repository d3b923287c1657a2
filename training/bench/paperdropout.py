"""What dropout does to the plain head of a network: the mean error with and without it.

    python -m training.bench.paperdropout --data DATA_FOLDER

A head that learns a number by squared error while features are dropped is right on average while
they are dropped. Once they are not, its answer may be shifted; anchors compare directions only. The
command trains the plain head as `training.bench.paperruns` does (at a tenth of the rate from 5/8
of the steps on) and prints both errors on windows that it has learned from and on held-out ones.
"""

from __future__ import annotations

import math
from pathlib import Path

import click
import torch
from torch import Tensor, nn

from training.bench.paperground import PASSES, PaperRun
from training.bench.papernets import NETWORKS
from training.bench.paperruns import Ground, prepare_ground, train_plain
from training.errors import exit_on_errors
from training.methods.plain import Plain

__all__ = ["errors_of"]

_BATCH = 512


def errors_of(model: Plain, part: tuple[Tensor, Tensor], *, dropping: bool) -> tuple[float, float]:
    """Mean error and RMSE in the unit of the answer, with dropout acting or not."""
    model.eval()
    for layer in model.modules():
        if isinstance(layer, nn.Dropout):
            layer.train(dropping)
    with torch.no_grad():
        found = [model.head(model.encoder(batch))[:, 0] for batch in torch.split(part[0], _BATCH)]
    errors = torch.cat(found) * float(model.largest or 1) - part[1]
    return float(errors.mean()), math.sqrt(float(errors.square().mean()))


@click.command(context_settings={"show_default": True})
@click.option("--data", type=click.Path(path_type=Path), required=True, help="Data folder.")
@click.option("--only", "benchmark", default="FD001", help="Benchmark (C-MAPSS).")
@exit_on_errors("training.bench.paperdropout")
def main(data: Path, benchmark: str) -> None:
    """Print mean error and RMSE of every network, with dropout acting and without."""
    ground = prepare_ground(benchmark, data, 0)
    for network, title in NETWORKS.items():
        model = train_plain(
            PaperRun(network, benchmark, "none", 0, _passes(network, benchmark)), ground
        )
        for words, part in _parts(ground).items():
            found = [errors_of(model, part, dropping=dropping) for dropping in (True, False)]
            click.echo(
                f"{benchmark} {title}, {words}: mean error (RMSE) with dropout "
                f"{found[0][0]:+.1f} ({found[0][1]:.1f}), without {found[1][0]:+.1f} "
                f"({found[1][1]:.1f})"
            )


def _passes(network: str, benchmark: str) -> int:
    return PASSES[network].get(benchmark, 1)


def _parts(ground: Ground) -> dict[str, tuple[Tensor, Tensor]]:
    every = slice(None, None, 8)
    seen = (ground.seen[0][every], ground.seen[1][every])
    return {"learned windows": seen, "held-out windows": ground.sample}


if __name__ == "__main__":
    main()
