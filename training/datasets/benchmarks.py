"""The benchmarks of the ledger by name, and the data file that each one reads.

`A>B` learns from A and is tested on B: a fault or conditions that are absent from training.
`dummy-*` are made-up sets for tests, one per task with labels; series for forecasting have their
names in `training.datasets.series_sources`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from training.datasets import cmapss
from training.datasets.arem import read_arem
from training.datasets.cmapss_altitudes import read_altitudes
from training.datasets.contract import DataSet
from training.datasets.dummy import make_dummy
from training.datasets.ims import read_ims
from training.datasets.rfid_har import read_rfid_har
from training.datasets.spsw import read_spsw
from training.datasets.uci_har import read_uci_har
from training.datasets.wisdm import read_wisdm
from training.errors import DataSetError
from training.recipes import labelled_tasks

__all__ = ["BENCHMARKS", "read_benchmark"]

_ENGINES = ("FD001", "FD002", "FD003", "FD004", "FD001>FD003", "FD002>FD004", "FD002-altitudes")
_BEARINGS = ("IMS-1", "IMS-2", "IMS-3")
_PEOPLE = ("UCI-HAR", "SPSW-watch", "SPSW-phone", "WISDM", "AReM", "RFID-HAR")
_DUMMY = "dummy-"
BENCHMARKS: dict[str, str] = {
    **dict.fromkeys((*_ENGINES, *_BEARINGS), "rul"),
    **dict.fromkeys(_PEOPLE, "activity"),
    **{f"{_DUMMY}{task.name}": task.name for task in labelled_tasks()},
}
"""Names of the benchmarks and the tasks that their data sets declare."""


def read_benchmark(
    name: str, folder: Path, *, length: int = 0, conditions: bool = False
) -> DataSet:
    """Read a benchmark with its test set.

    Args:
        name: Key of `BENCHMARKS`.
        folder: Folder of the data files, unused for dummy benchmarks; for C-MAPSS it may be the
            file itself.
        length: Readings in a window (C-MAPSS); 0 for the usual 30.
        conditions: Read the operating settings too (C-MAPSS).

    Raises:
        DataSetError: The name is unknown, a file is missing, or its content does not match its
            name.
    """
    if name not in BENCHMARKS:
        msg = f"benchmark {name!r} is not one of {', '.join(BENCHMARKS)}"
        raise DataSetError(msg)
    if name.startswith(_DUMMY):
        return make_dummy(BENCHMARKS[name], groups=5)
    if name in _ENGINES:
        path = folder / "cmapss.zip" if folder.is_dir() else folder
        length = length or cmapss.LENGTH
        if name == "FD002-altitudes":
            return read_altitudes(path, length)
        learn, _, test = name.partition(">")
        return cmapss.read_cmapss(path, learn, length=length, conditions=conditions, test=test)
    if name in _BEARINGS:
        return read_ims(folder / "ims_bearing_meanabs.zip", int(name[-1]))
    if name.startswith("SPSW"):
        device: Literal["watch", "phone"] = "watch" if name.endswith("watch") else "phone"
        return read_spsw(folder / "spsw_har.tar.xz", device)
    if name == "UCI-HAR":
        return read_uci_har(folder)
    read, file = {
        "WISDM": (read_wisdm, "wisdm_windows.npz"),
        "AReM": (read_arem, "arem.zip"),
        "RFID-HAR": (read_rfid_har, "rfid_har.zip"),
    }[name]
    return read(folder / file)
