"""Records the provenance of figures: versions, command, hashes."""

import hashlib
import platform
import sys
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch
from torch import Tensor

_PACKAGES = (
    "segaudit",
    "torch",
    "torchvision",
    "lightning",
    "torchmetrics",
    "segmentation-models-pytorch",
    "albumentations",
    "numpy",
    "scipy",
)


def provenance(**more: Any) -> dict[str, Any]:
    """Return what is needed to reproduce figures: time, command, versions, the kind of machine, and ``more``."""
    return {
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": sys.argv,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "versions": {name: _version(name) for name in _PACKAGES},
        **more,
    }


def weights_hash(state: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of the names and values of a state dict; the device does not matter."""
    return _hash(part for name, value in sorted(state.items()) for part in (name.encode(), value))


def sample_hash(image: Tensor, mask: Tensor | None) -> str:
    """Return the SHA-256 of an image, as the model saw it, and its mask."""
    return _hash([image] if mask is None else [image, mask])


def data_hash(samples: Mapping[str, str]) -> str:
    """Return the SHA-256 of the names and hashes of samples; their order does not matter."""
    return _hash(part.encode() for pair in sorted(samples.items()) for part in pair)


def _hash(parts: Iterable[bytes | Tensor]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, Tensor):
            digest.update(f"{part.dtype}{tuple(part.shape)}".encode())
            part = part.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes()
        digest.update(part)
    return digest.hexdigest()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
