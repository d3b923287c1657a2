"""Windows as TIME-LLM reads them: one channel at a time, each with its prompt."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.datasets.series import Part, SeriesSet, SeriesWindows
from training.errors import DataSetError
from training.teachers.prompt_states import PromptForm
from training.teachers.timellm_config import TimeLLMConfig
from training.teachers.timellm_network import TimeLLMNetwork
from training.teachers.window_prompts import Prompts, write_prompts

__all__ = [
    "ChannelWindows",
    "Pass",
    "channel_windows",
    "few_windows",
    "fit_ridge",
    "run_network",
    "share_prompts",
]

_PENALTIES = (1.0, 10.0, 100.0, 1000.0, 10_000.0)
_BATCH = 128


@dataclass(frozen=True, slots=True)
class ChannelWindows:
    """Windows of one channel each: channel c of window w is row w x channels + c.

    Attributes:
        inputs: Look-backs `[rows, length]`, standardised.
        targets: What followed `[rows, horizon]`, standardised.
        prompts: Text of every row; the same single empty text for all where there is no prompt.
        channels: Channels of a window.
    """

    inputs: Tensor
    targets: Tensor
    prompts: Prompts
    channels: int

    def __len__(self) -> int:
        return len(self.inputs)

    def at(self, windows: NDArray[np.int64]) -> ChannelWindows:
        """Return the windows `windows` (whole windows, not rows), with all of their channels."""
        rows = (windows[:, None] * self.channels + np.arange(self.channels)).reshape(-1)
        places = torch.from_numpy(rows)
        prompts = Prompts(self.prompts.texts, self.prompts.index[rows])
        return replace(
            self, inputs=self.inputs[places], targets=self.targets[places], prompts=prompts
        )

    @property
    def index(self) -> Tensor:
        """Text of every row `[rows]`."""
        return torch.from_numpy(self.prompts.index)


@dataclass(frozen=True, slots=True)
class Pass:
    """What the network said of windows, in their order.

    Attributes:
        forecasts: `[windows, horizon, channels]`, standardised.
        features: Mean state of the patches `[windows, channels, width]`.
        codes: Attention over the prototypes `[windows, channels, prototypes]`; None without.
        mse: Mean squared error over windows, channels and steps.
        mae: Mean absolute error.
    """

    forecasts: NDArray[np.float32]
    features: NDArray[np.float32]
    codes: NDArray[np.float32] | None
    mse: float
    mae: float


def channel_windows(
    data: SeriesSet, config: TimeLLMConfig, windows: SeriesWindows
) -> ChannelWindows:
    """Separate the channels of windows and write their prompts."""
    inputs, targets = (
        np.ascontiguousarray(part.transpose(0, 2, 1)).reshape(-1, part.shape[1])
        for part in (windows.inputs(), windows.targets())
    )
    if config.backbone == "none" or config.prompt == "none":
        prompts = Prompts(("",), np.zeros(len(inputs), dtype=np.int64))
    else:
        prompts = write_prompts(config, data.about, data.period, inputs)
    return ChannelWindows(
        torch.from_numpy(inputs), torch.from_numpy(targets), prompts, len(data.channels)
    )


def few_windows(
    data: SeriesSet, config: TimeLLMConfig, part: Part, stride: int, share: float = 1.0
) -> SeriesWindows:
    """Cut every `stride`-th window of a part, of the oldest `share` of each device's rows.

    As in the literature, a share leaves (rows - length) x share + length rows.

    Raises:
        DataSetError: The share has no whole window.
    """
    windows = data.windows(part, config.length, config.horizon)
    offsets = np.cumsum([0, *(len(times) for times in data.times_ms)])
    kept = []
    for device, (train_end, _, _) in enumerate(data.borders):
        first = windows.first[windows.device == device]
        if share < 1:
            rows = int((train_end - config.length) * share) + config.length
            first = first[first + config.horizon <= offsets[device] + rows]
        kept.append(first[::stride])
    first = np.concatenate(kept)
    if not len(first):
        msg = (
            f"{data.name}: a share of {share} of the {part} part has no window of "
            f"{config.length} + {config.horizon} readings: use a larger share"
        )
        raise DataSetError(msg)
    owners = np.repeat(np.arange(len(kept)), [len(one) for one in kept])
    return replace(windows, first=first, device=owners)


def share_prompts(parts: list[ChannelWindows]) -> tuple[tuple[str, ...], list[ChannelWindows]]:
    """Number the prompts of several parts in one list of texts, sorted."""
    texts = tuple(sorted({text for part in parts for text in part.prompts.texts}))
    place_of = {text: place for place, text in enumerate(texts)}
    found = []
    for part in parts:
        places = np.array([place_of[text] for text in part.prompts.texts], dtype=np.int64)
        found.append(replace(part, prompts=Prompts(texts, places[part.prompts.index])))
    return texts, found


@torch.no_grad()
def run_network(
    network: TimeLLMNetwork, language: PromptForm | None, windows: ChannelWindows
) -> Pass:
    """Forecast windows in evaluation mode, in their order."""
    was_training = network.training
    network.eval()
    outs = []
    for start in range(0, len(windows), _BATCH):
        rows = slice(start, start + _BATCH)
        outs.append(network(windows.inputs[rows], language, windows.index[rows]))
    network.train(was_training)
    values = torch.cat([out.values for out in outs])
    error = (values - windows.targets).double()
    codes = None
    if outs[0].code is not None:
        codes = _by_window(torch.cat([out.code for out in outs]), windows.channels)
    return Pass(
        forecasts=_by_window(values, windows.channels).transpose(0, 2, 1),
        features=_by_window(torch.cat([out.feature for out in outs]), windows.channels),
        codes=codes,
        mse=float(error.square().mean()),
        mae=float(error.abs().mean()),
    )


def fit_ridge(train: ChannelWindows, validation: ChannelWindows) -> Tensor:
    """Fit a linear map `[horizon, length]` of mean-removed windows in closed form.

    The penalty with the lowest validation error is taken.
    """
    mean = train.inputs.mean(dim=1, keepdim=True)
    inputs, targets = (train.inputs - mean).double(), (train.targets - mean).double()
    gram, moment = inputs.T @ inputs, inputs.T @ targets
    centre = validation.inputs.mean(dim=1, keepdim=True)
    shifted, truth = (validation.inputs - centre).double(), (validation.targets - centre).double()
    best, lowest = torch.zeros(0), float("inf")
    for penalty in _PENALTIES:
        weights = torch.linalg.solve(gram + penalty * torch.eye(len(gram)).double(), moment)
        error = float((shifted @ weights - truth).square().mean())
        if error < lowest:
            best, lowest = weights, error
    return best.T.float().contiguous()


def _by_window(rows: Tensor, channels: int) -> NDArray[np.float32]:
    array: NDArray[np.float32] = rows.reshape(-1, channels, rows.shape[1]).numpy()
    return array
