"""What can go wrong with a model, as one tree.

```
ModelError
├── ArtifactError         a directory is not an artifact this code may score; nothing was changed
│   ├── ArtifactMissing   the directory or one of its two files is not there
│   ├── UnexpectedFile    a link, a folder or a file that does not belong to an artifact
│   ├── TooLarge          model.onnx or manifest.json is above its limit
│   ├── ManifestInvalid   not UTF-8 JSON, a key twice, a missing or odd field
│   ├── DigestMismatch    bytes are not those that the manifest or the pointer names
│   ├── GraphRefused      no ONNX model, wrong opset, external data, foreign operator
│   ├── ShapeMismatch     input or output of the graph is not what the manifest says
│   ├── ChannelMismatch   channels, units or their order differ from the running student's
│   ├── Misfit            another field that windows depend on differs from the running student's
│   └── SelfTestFailed    the student loads but its numbers are not usable
├── UnknownTask           no task of this name is registered
├── ScoreFailed           ONNX Runtime refused a batch of a student that had passed its self-test
└── RegistryError
    ├── NameRefused       a model name or version that is not one
    ├── VersionMissing    the registry does not hold this version
    ├── PointerInvalid    stable.json is damaged
    └── RegistryBusy      another publisher held the lock for too long
```
"""

from __future__ import annotations

__all__ = [
    "ArtifactError",
    "ArtifactMissing",
    "ChannelMismatch",
    "DigestMismatch",
    "GraphRefused",
    "ManifestInvalid",
    "Misfit",
    "ModelError",
    "NameRefused",
    "PointerInvalid",
    "RegistryBusy",
    "RegistryError",
    "ScoreFailed",
    "SelfTestFailed",
    "ShapeMismatch",
    "TooLarge",
    "UnexpectedFile",
    "UnknownTask",
    "VersionMissing",
]


class ModelError(Exception):
    """Root of everything that `models` raises on purpose."""


class ArtifactError(ModelError):
    """The artifact is refused; whatever ran before keeps running."""


class ArtifactMissing(ArtifactError):
    """The directory, model.onnx or manifest.json is not there (yet)."""


class UnexpectedFile(ArtifactError):
    """The directory holds a link, a folder, or a file that does not belong to an artifact."""


class TooLarge(ArtifactError):
    """A file is above its size limit."""


class ManifestInvalid(ArtifactError):
    """manifest.json cannot be read or one of its fields is odd."""


class DigestMismatch(ArtifactError):
    """Size or SHA-256 differ from what the manifest or the pointer promised."""


class GraphRefused(ArtifactError):
    """model.onnx is not a graph that may run on a gateway."""


class ShapeMismatch(ArtifactError):
    """Name, element type or shape of an input or output contradicts the manifest."""


class ChannelMismatch(ArtifactError):
    """Channels, their units or their order differ from the running student's."""


class Misfit(ArtifactError):
    """A field that open windows depend on differs from the running student's."""


class SelfTestFailed(ArtifactError):
    """The student runs, but its numbers are not finite, not in range or not repeatable."""


class UnknownTask(ModelError, ValueError):
    """No task of this name is registered."""


class ScoreFailed(ModelError):
    """ONNX Runtime refused a batch; no window of it has a score."""


class RegistryError(ModelError):
    """The registry cannot do what was asked; nothing was changed."""


class NameRefused(RegistryError):
    """A model name or version number that is not one (path traversal included)."""


class VersionMissing(RegistryError):
    """The registry does not hold this name or version."""


class PointerInvalid(RegistryError):
    """stable.json is damaged; the running student stays until it is repaired."""


class RegistryBusy(RegistryError):
    """Another publisher held the lock of this name for longer than the limit."""
