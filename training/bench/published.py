"""Published forecast errors on ETT, as later papers re-print them, with the backbone of each.

Mean squared error on standardised readings at the horizons 96, 192, 336 and 720. Look-back 96: LLM-
PS (2025), table 7, which ran LLaTA (as CALF), TIME-LLM again with the authors' code. Look-back 512:
GraFT (AAAI 2026), table 1, which re-prints the table of TIME-LLM; its baselines have the look-back
of their own papers (DLinear and PatchTST 336 or 512). `FEW_SHOT`, 10 % of the training part: LLM-
PS, table 8 (look-back 96); VisionTS (arXiv 2408.17253), table 9 (look-back 512). Nothing here was
measured by us.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["FEW_SHARE", "FEW_SHOT", "HORIZONS", "PUBLISHED", "Published", "published_errors"]

HORIZONS = (96, 192, 336, 720)
"""Horizons of the literature."""

Four = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Published:
    """One row of a published table.

    Attributes:
        model: Name.
        backbone: Language model that it runs at inference, or `none`.
        length: Look-back of the table.
        errors: Mean squared error at each of `HORIZONS`, by data set.
    """

    model: str
    backbone: str
    length: int
    errors: dict[str, Four]


PUBLISHED = (
    Published(
        "LLaTA (CALF)",
        "GPT-2, 6 blocks",
        96,
        {
            "ETTh1": (0.369, 0.427, 0.456, 0.479),
            "ETTh2": (0.279, 0.353, 0.362, 0.404),
            "ETTm1": (0.323, 0.374, 0.409, 0.477),
            "ETTm2": (0.178, 0.242, 0.307, 0.397),
        },
    ),
    Published(
        "TIME-LLM, run by others",
        "not stated",
        96,
        {
            "ETTh1": (0.398, 0.451, 0.508, 0.483),
            "ETTh2": (0.295, 0.386, 0.447, 0.428),
            "ETTm1": (0.359, 0.383, 0.416, 0.483),
            "ETTm2": (0.193, 0.257, 0.317, 0.419),
        },
    ),
    Published(
        "PatchTST",
        "none",
        96,
        {
            "ETTh1": (0.393, 0.445, 0.484, 0.480),
            "ETTh2": (0.294, 0.377, 0.381, 0.412),
            "ETTm1": (0.321, 0.362, 0.392, 0.450),
            "ETTm2": (0.178, 0.249, 0.313, 0.400),
        },
    ),
    Published(
        "iTransformer",
        "none",
        96,
        {
            "ETTh1": (0.386, 0.441, 0.489, 0.508),
            "ETTh2": (0.300, 0.379, 0.418, 0.428),
            "ETTm1": (0.341, 0.382, 0.418, 0.487),
            "ETTm2": (0.185, 0.253, 0.315, 0.413),
        },
    ),
    Published(
        "DLinear",
        "none",
        96,
        {
            "ETTh1": (0.386, 0.437, 0.481, 0.519),
            "ETTh2": (0.333, 0.477, 0.594, 0.831),
            "ETTm1": (0.345, 0.380, 0.413, 0.474),
            "ETTm2": (0.193, 0.284, 0.369, 0.554),
        },
    ),
    Published(
        "TIME-LLM",
        "Llama-7B",
        512,
        {
            "ETTh1": (0.362, 0.398, 0.430, 0.442),
            "ETTh2": (0.268, 0.329, 0.368, 0.372),
            "ETTm1": (0.272, 0.310, 0.352, 0.383),
            "ETTm2": (0.161, 0.219, 0.271, 0.352),
        },
    ),
    Published(
        "PatchTST",
        "none",
        512,
        {
            "ETTh1": (0.370, 0.413, 0.422, 0.447),
            "ETTh2": (0.274, 0.339, 0.329, 0.379),
            "ETTm1": (0.290, 0.332, 0.366, 0.416),
            "ETTm2": (0.165, 0.220, 0.274, 0.362),
        },
    ),
    Published(
        "iTransformer",
        "none",
        512,
        {
            "ETTh1": (0.395, 0.427, 0.445, 0.537),
            "ETTh2": (0.304, 0.377, 0.405, 0.443),
            "ETTm1": (0.312, 0.347, 0.379, 0.441),
            "ETTm2": (0.179, 0.242, 0.288, 0.378),
        },
    ),
    Published(
        "DLinear",
        "none",
        512,
        {
            "ETTh1": (0.375, 0.405, 0.439, 0.472),
            "ETTh2": (0.289, 0.383, 0.448, 0.605),
            "ETTm1": (0.299, 0.335, 0.369, 0.425),
            "ETTm2": (0.167, 0.224, 0.281, 0.397),
        },
    ),
)
"""Rows in the order of the tables."""

FEW_SHARE = 0.1
FEW_SHOT = (
    Published(
        "LLaTA (CALF)",
        "GPT-2, 6 blocks",
        96,
        {
            "ETTh1": (0.468, 0.550, 0.581, 0.978),
            "ETTh2": (0.314, 0.404, 0.458, 0.502),
            "ETTm1": (0.468, 0.479, 0.499, 0.572),
            "ETTm2": (0.190, 0.257, 0.323, 0.441),
        },
    ),
    Published(
        "TIME-LLM, run by others",
        "not stated",
        96,
        {
            "ETTh1": (0.500, 0.590, 0.638, 1.334),
            "ETTh2": (0.329, 0.414, 0.579, 1.034),
            "ETTm2": (0.189, 0.264, 0.327, 0.454),
        },
    ),
    Published(
        "PatchTST",
        "none",
        96,
        {
            "ETTh1": (0.433, 0.509, 0.572, 1.221),
            "ETTh2": (0.314, 0.420, 0.543, 0.926),
            "ETTm2": (0.189, 0.248, 0.311, 0.435),
        },
    ),
    Published(
        "TIME-LLM",
        "Llama-7B",
        512,
        {
            "ETTh1": (0.448, 0.484, 0.589, 0.700),
            "ETTh2": (0.275, 0.374, 0.406, 0.427),
            "ETTm1": (0.346, 0.373, 0.413, 0.485),
            "ETTm2": (0.177, 0.241, 0.274, 0.417),
        },
    ),
    Published(
        "PatchTST",
        "none",
        512,
        {
            "ETTh1": (0.516, 0.598, 0.657, 0.762),
            "ETTh2": (0.353, 0.403, 0.426, 0.477),
            "ETTm1": (0.410, 0.437, 0.476, 0.681),
            "ETTm2": (0.191, 0.252, 0.306, 0.433),
        },
    ),
)
"""Rows with a tenth of the training part; a set that is missing was printed as an average only."""


def published_errors(data: str, horizon: int, share: float) -> list[tuple[Published, float]]:
    """Return the published rows of a data set and horizon with the error of each.

    Only the whole training part and a tenth of it were found horizon by horizon.
    """
    if share not in (1.0, FEW_SHARE) or horizon not in HORIZONS:
        return []
    place = HORIZONS.index(horizon)
    rows = PUBLISHED if share == 1.0 else FEW_SHOT
    return [(one, one.errors[data][place]) for one in rows if data in one.errors]
