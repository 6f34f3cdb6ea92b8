"""The program `segaudit`: Lightning's verbs on the command line, everything chosen in YAML."""

import os
import re
import shutil
import sys
import traceback
import warnings
from collections.abc import Sequence

import segmentation_models_pytorch  # noqa: F401 -- imported, as the next ones are, so that its classes have short names
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import LightningDataModule, LightningModule
from lightning.pytorch.cli import ArgsType, LightningCLI

import segaudit.callbacks
import segaudit.data
import segaudit.metrics.catalogue as score_catalogue
import segaudit.task
from segaudit.attribution.catalogue import LEGEND, catalogue, describe
from segaudit.trainer import Trainer


def main(args: ArgsType = None) -> None:
    """Run the program.

    Beside Lightning's verbs there are ``explainers [name]`` and ``scores [name]``, which list them or tell all about one.

    What the user can mend is told in one sentence, with the exit status 1 (2 for the command line itself);
    ``SEGAUDIT_TRACEBACK=1`` shows where it arose.

    Args:
        args: the command line; None stands for that of the process.

    """
    # Lightning calls torch in a way that torch is giving up; nothing that the user can mend.
    warnings.filterwarnings("ignore", message=".*treespec.*")
    words = sys.argv[1:] if args is None else args
    try:
        if isinstance(words, list) and words[:1] in (["explainers"], ["scores"]):
            (_explainers if words[0] == "explainers" else _scores)(words[1:])
            sys.stdout.flush()
            return
        LightningCLI(
            LightningModule,
            LightningDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            auto_configure_optimizers=False,  # one way is enough: the task has an optimizer and a scheduler of its own
            trainer_class=Trainer,
            seed_everything_default=0,
            save_config_kwargs={"overwrite": True},
            trainer_defaults={"callbacks": segaudit.callbacks.MaskWriter()},
            args=args,
        )
    except BrokenPipeError:  # `segaudit scores | head` has read enough; nothing is left to flush at the end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (ValueError, FileNotFoundError, MisconfigurationException) as error:
        sentence = _sentence(error)
        if os.environ.get("SEGAUDIT_TRACEBACK") or not sentence:
            raise
        sys.exit(f"segaudit: {sentence}\n(SEGAUDIT_TRACEBACK=1 shows where this arose.)")


def _explainers(names: list[str]) -> None:
    """Print a table of all explainers, or what the named ones say of themselves."""
    if names:
        print("\n\n".join(describe(name) for name in names))
        return
    rows = [("explainer", "family", "passes an image", "what it is")]
    rows += [(entry.name, entry.family, entry.cost, entry.summary) for entry in catalogue()]
    _print_columns(rows)
    print(f"{LEGEND} `segaudit explainers <name>` tells more.")


def _scores(names: list[str]) -> None:
    """Print a table of all scores, or what the named ones say of themselves."""
    if names:
        print("\n\n".join(score_catalogue.describe(name) for name in names))
        return
    rows = [("score", "family", "better", "range", "what it is")]
    _print_columns(rows + [(e.name, e.family, e.better, e.range, e.summary) for e in score_catalogue.catalogue()])
    print("`segaudit scores <name>` tells more.")


def _print_columns(rows: Sequence[Sequence[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    for row in rows:
        print("  ".join(f"{cell:<{wide}}" for cell, wide in zip(row, widths, strict=True)).rstrip()[:width])


def _sentence(error: Exception) -> str:
    """What to tell the user; nothing for an error that a library raised because it was called wrongly."""
    # A constructor's error is hidden in jsonargparse's account of all that the value could have been but isn't.
    if str(error).startswith("Does not validate"):
        reasons = [x for x in re.findall(r"^ +- (.*)", str(error), re.MULTILINE) if not x.startswith("Expected a")]
        return "; ".join(reasons) or str(error)
    if not isinstance(error, ValueError):
        return str(error)
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    origins = type(error).__module__, str(frame.f_globals.get("__name__"))
    return str(error) if any(name.startswith("segaudit.") for name in origins) else ""
