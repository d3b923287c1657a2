"""What can go wrong on the way from a data set to a published student.

```
TrainingError
├── DataSetError        the data set is not what its name says, or cannot be split as asked
├── RecipeError         a recipe (flat TOML) has an unknown key, a wrong type or an impossible value
├── AnchorCacheError    cached anchors are missing, damaged, or belong to other prompts
├── CheckpointError     the folder of a run belongs to another run, or its state cannot be read
├── LeakageError        the running student has seen the held-out groups: no fair comparison exists
├── LedgerError         a plan or the results file of the experiment ledger cannot be used
├── ExportError         the ONNX graph disagrees with the trained student: no artifact is written
└── MissingExtraError   torch (or matplotlib, transformers) is not installed
```

All of them end `train-redistill` with exit code 2 and their message; nothing is published.
"""

from __future__ import annotations

__all__ = [
    "AnchorCacheError",
    "CheckpointError",
    "DataSetError",
    "ExportError",
    "LeakageError",
    "LedgerError",
    "MissingExtraError",
    "RecipeError",
    "TrainingError",
]


class TrainingError(Exception):
    """Root of everything `training` raises on purpose."""


class DataSetError(TrainingError):
    """The data cannot be read, are not the promised set, or are too few groups to split."""


class RecipeError(TrainingError):
    """A recipe cannot be used; the message names the key, its value and what would be right."""


class AnchorCacheError(TrainingError):
    """Cached anchors are missing or wrong; the message says how to compute them again."""


class CheckpointError(TrainingError):
    """A run cannot be continued from its folder; take another folder or delete it."""


class LeakageError(TrainingError):
    """A comparison would flatter one side: it was trained on the groups it is judged on."""


class LedgerError(TrainingError):
    """A plan names what does not exist, or a line of the results file is damaged."""


class ExportError(TrainingError):
    """The exported graph does not reproduce the student, or breaks a limit of artifacts."""


class MissingExtraError(TrainingError):
    """The `[training]` extra is not installed."""

    def __init__(self, module: str) -> None:
        super().__init__(
            f"training needs the module {module!r}, which is not installed: "
            "pip install 'kpstream[training]'"
        )
