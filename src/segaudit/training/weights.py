"""Loads weights from files, as data and never as code."""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

#: Prefixes that trainers put before a network's own names.
_PREFIXES = ("", "network.", "model.", "module.", "net.", "_orig_mod.")


def load_weights(model: nn.Module, path: Path | str) -> None:
    """Load the weights of a Lightning checkpoint or a bare state dict into a model.

    The names in the file and in the model may differ by a prefix that Lightning modules, DistributedDataParallel or
    ``torch.compile`` add. The file must have every weight of the model, in its shape. It is read with
    ``weights_only=True``, so that nothing in it is run.

    Args:
        model: receives the weights; it stays unchanged where they do not fit.
        path: path of the file.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is not a checkpoint, is broken, holds code, or belongs to another network.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp(), "weights.pt")
        >>> torch.save({"state_dict": {"network.weight": torch.ones(1, 1), "network.bias": torch.zeros(1)}}, file)
        >>> layer = nn.Linear(1, 1)
        >>> load_weights(layer, file)
        >>> layer.weight.item()
        1.0

    """
    state = _state(Path(path))
    wanted = model.state_dict()
    best: dict[str, Tensor] = {}
    for theirs in _PREFIXES:
        for ours in _PREFIXES:
            renamed = {ours + name.removeprefix(theirs): value for name, value in state.items() if name.startswith(theirs)}
            found = {name: value for name, value in renamed.items() if name in wanted}
            if len(found) > len(best):
                best = found
    missing = [name for name in wanted if name not in best]
    misfits = [name for name in best if best[name].shape != wanted[name].shape]
    if missing or misfits:
        what = (
            f"{len(missing)} of {len(wanted)} weights are not in it, {missing[0]!r} first"
            if missing
            else f"{misfits[0]!r} has the shape {tuple(best[misfits[0]].shape)} there and "
            f"{tuple(wanted[misfits[0]].shape)} in the network"
        )
        raise ValueError(f"the checkpoint {path} is of another network: {what}. Give the network it was trained with.")
    model.load_state_dict(best)


def _state(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise FileNotFoundError(f"there is no checkpoint {path}: give the path of a file that holds weights.")
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        named = str(error).split("GLOBAL ")[-1].split(" ")[0] if "GLOBAL " in str(error) else "an object"
        raise ValueError(
            f"the checkpoint {path} holds more than weights ({named}), which could run code when it is read, or it is no "
            "checkpoint at all: it was not loaded. Save model.state_dict() alone where it was made, and give that file."
        ) from None
    except (RuntimeError, EOFError, KeyError, IndexError, OSError, ValueError, AttributeError, TypeError) as error:
        why = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ValueError(
            f"the checkpoint {path} is broken or cut short ({why}): copy it again from where it was made."
        ) from None
    for key in ("state_dict", "model_state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
            break
    state = {str(k): v for k, v in content.items() if isinstance(v, Tensor)} if isinstance(content, Mapping) else {}
    if not state:
        raise ValueError(
            f"the checkpoint {path} holds no weights: give a state dict, or a checkpoint with a 'state_dict' in it."
        )
    return state
