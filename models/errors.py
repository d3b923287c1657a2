"""The errors of `models`, as one tree.

```
ModelError
├── ArtifactError         a directory is not a valid artifact; nothing was changed
│   ├── ArtifactMissing   the directory or one of its two files is missing
│   ├── UnexpectedFile    a link, a folder or a file that does not belong to an artifact
│   ├── TooLarge          model.onnx or manifest.json is above its limit
│   ├── ManifestInvalid   not UTF-8 JSON, a duplicate key, a missing or invalid field
│   ├── DigestMismatch    the bytes differ from the digest in the manifest or the pointer
│   ├── GraphRefused      not an ONNX model, wrong opset, external data, foreign operator
│   ├── ShapeMismatch     input or output of the graph differs from the manifest
│   ├── ChannelMismatch   channels, units or their order differ from the running student's
│   ├── Misfit            another field that windows depend on differs from the running student's
│   ├── SelfTestFailed    the student loads, but its numbers are unusable
│   └── FailedBefore      it failed on this machine while it scored, and is not tried again
├── UnknownTask           no task of this name is registered
├── ScoreFailed           ONNX Runtime refused a batch after the student had passed its self-test
└── RegistryError
    ├── NameRefused       an invalid model name or version
    ├── VersionMissing    the registry does not have this version
    ├── VersionTaken      the registry has another content under this number
    ├── Held              the name is held, or pinned to another version
    ├── Rejected          the version, or a student with its bytes, was rejected
    ├── PointerInvalid    stable.json is damaged, gone or an older copy
    └── RegistryBusy      another publisher held the lock for too long
```
"""

from __future__ import annotations

__all__ = [
    "ArtifactError",
    "ArtifactMissing",
    "ChannelMismatch",
    "DigestMismatch",
    "FailedBefore",
    "GraphRefused",
    "Held",
    "ManifestInvalid",
    "Misfit",
    "ModelError",
    "NameRefused",
    "PointerInvalid",
    "RegistryBusy",
    "RegistryError",
    "Rejected",
    "ScoreFailed",
    "SelfTestFailed",
    "ShapeMismatch",
    "TooLarge",
    "UnexpectedFile",
    "UnknownTask",
    "VersionMissing",
    "VersionTaken",
]


class ModelError(Exception):
    """Root of all errors that `models` raises on purpose."""


class ArtifactError(ModelError):
    """The artifact is refused; the running student stays."""


class ArtifactMissing(ArtifactError):
    """The directory, model.onnx or manifest.json is missing, perhaps only temporarily."""


class UnexpectedFile(ArtifactError):
    """The directory contains a link, a folder, or a file that does not belong to an artifact."""


class TooLarge(ArtifactError):
    """A file is above its size limit."""


class ManifestInvalid(ArtifactError):
    """manifest.json cannot be read, or one of its fields is invalid."""


class DigestMismatch(ArtifactError):
    """Size or SHA-256 differ from those in the manifest or the pointer."""


class GraphRefused(ArtifactError):
    """model.onnx is not a graph that may run on a gateway."""


class ShapeMismatch(ArtifactError):
    """Name, element type or shape of an input or output contradicts the manifest."""


class ChannelMismatch(ArtifactError):
    """Channels, their units or their order differ from the running student's."""


class Misfit(ArtifactError):
    """A field that open windows depend on differs from the running student's."""


class SelfTestFailed(ArtifactError):
    """The student runs, but its numbers are not finite, out of range or not repeatable."""


class FailedBefore(ArtifactError):
    """The student failed on this machine while it scored, and is not tried again."""


class UnknownTask(ModelError, ValueError):
    """No task of this name is registered."""


class ScoreFailed(ModelError):
    """ONNX Runtime refused a batch; no window of it has a score."""


class RegistryError(ModelError):
    """The registry refused an operation; nothing was changed."""


class NameRefused(RegistryError):
    """A model name or version number is invalid, path traversal included."""


class VersionMissing(RegistryError):
    """The registry does not have this name or version."""


class VersionTaken(RegistryError):
    """The registry has another content under the number of a version that a centre signed."""


class Held(RegistryError):
    """The name is held, or pinned to another version, by a person."""


class Rejected(RegistryError):
    """The version, or one with its bytes, was stable until somebody moved the pointer back."""


class PointerInvalid(RegistryError):
    """stable.json is damaged, gone or an older copy; the running student stays until it is set."""


class RegistryBusy(RegistryError):
    """Another publisher held the lock of this name for too long."""
