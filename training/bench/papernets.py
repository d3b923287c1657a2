"""The networks of the paper's ground, as in the authors' public code line, up to the feature.

`bilstm`: two bidirectional layers of 16 and 32, directions summed, the first time step, dense
layers of 16 and 8. `cnn`: six convolutions and two dense layers of 256; with anchors one more of
128. `penet`: a learned projection of the sensors plus a learned projection of a sinusoidal code of
the position, then the body of `cnn`. They are far larger than students (`cnn` and `penet`: half a
million weights) and are never exported.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["NETWORKS", "build_paper_network"]

NETWORKS = {"bilstm": "Bi-LSTM", "cnn": "CNN", "penet": "PE-Net"}
"""Networks and their names in tables."""

_CHANNELS = (16, 64, 64, 128, 128, 256)
_KERNELS = (5, 3, 3, 3, 3, 3)
_STRIDES = (2, 1, 1, 2, 1, 2)
_DENSE = 256
_WITH_ANCHORS = 128
_NARROW = 8
_CODE = 16


def build_paper_network(
    network: str, length: int, channels: int, *, anchors: bool, dropout: float = 0.2
) -> tuple[nn.Module, int]:
    """Build an untrained network and tell the width of its feature.

    Args:
        network: Key of `NETWORKS`.
        length: Readings in a window.
        channels: Channels of a reading.
        anchors: Whether the feature is compared with anchors; `cnn` then has one more dense layer.
        dropout: Share of features dropped while training.

    Returns:
        Windows `[batch, length, channels]` to features `[batch, width]`, and the width.
    """
    if network == "bilstm":
        return _BiLstm(channels, dropout), _NARROW
    if network == "penet":
        return nn.Sequential(_Position(length, channels), _body(length, _CODE, dropout)), _DENSE
    body = nn.Sequential(_Transposed(), _body(length, channels, dropout))
    if not anchors:
        return body, _DENSE
    return nn.Sequential(body, nn.Linear(_DENSE, _WITH_ANCHORS), nn.ReLU()), _WITH_ANCHORS


def _body(steps: int, width: int, dropout: float) -> nn.Module:
    layers: list[nn.Module] = []
    for out, kernel, stride in zip(_CHANNELS, _KERNELS, _STRIDES, strict=True):
        layers += [nn.Conv1d(width, out, kernel, stride, kernel // 2), nn.BatchNorm1d(out)]
        layers.append(nn.ReLU())
        width, steps = out, (steps - 1) // stride + 1
    layers.append(nn.Flatten())
    for size in (width * steps, _DENSE):
        layers += [nn.Linear(size, _DENSE), nn.ReLU(), nn.Dropout(dropout)]
    return nn.Sequential(*layers)


class _BiLstm(nn.Module):
    """The network of `training.students.encoders.BiLstmEncoder`, a quarter faster.

    Only the first time step is used, which the forward direction of the second layer reaches after
    one step; the other steps of that direction are not computed.
    """

    def __init__(self, channels: int, dropout: float) -> None:
        super().__init__()
        self.first = nn.LSTM(channels, 16, batch_first=True, bidirectional=True)
        self.second_forward = nn.LSTM(16, 32, batch_first=True)
        self.second_backward = nn.LSTM(16, 32, batch_first=True)
        self.dropout = nn.Dropout(dropout)
        self.dense = nn.Sequential(nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, _NARROW), nn.ReLU())

    def forward(self, windows: Tensor) -> Tensor:
        forward, backward = self.first(windows)[0].chunk(2, dim=2)
        hidden = self.dropout(forward + backward)
        begin = self.second_forward(hidden[:, :1])[0][:, 0]
        whole = self.second_backward(hidden.flip(1))[0][:, -1]
        feature: Tensor = self.dense(self.dropout(begin + whole))
        return feature


class _Transposed(nn.Module):
    def forward(self, windows: Tensor) -> Tensor:
        return windows.transpose(1, 2)


class _Position(nn.Module):
    """Sensors and position code, projected and summed: `[batch, 16, length]`."""

    code: Tensor

    def __init__(self, length: int, channels: int) -> None:
        super().__init__()
        angle = torch.arange(length)[:, None] / 10000 ** (torch.arange(0, _CODE, 2) / _CODE)
        code = torch.stack([torch.sin(angle), torch.cos(angle)], dim=2).flatten(1)
        self.register_buffer("code", code.T.contiguous()[None])
        self.sensors = nn.Conv1d(channels, _CODE, 1)
        self.position = nn.Conv1d(_CODE, _CODE, 1, bias=False)
        self.norm = nn.BatchNorm1d(_CODE)

    def forward(self, windows: Tensor) -> Tensor:
        hidden: Tensor = self.sensors(windows.transpose(1, 2)) + self.position(self.code)
        return torch.relu(self.norm(hidden))
