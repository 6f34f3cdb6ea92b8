"""The program `segaudit`: Lightning's verbs on the command line, everything chosen in YAML."""

import errno
import os
import re
import sys
import traceback
import warnings

import segmentation_models_pytorch  # noqa: F401 -- imported, as the next ones are, so that its classes have short names
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import LightningDataModule, LightningModule
from lightning.pytorch.cli import ArgsType, LightningCLI

import segaudit.callbacks
import segaudit.data
import segaudit.task
from segaudit.report import AuditFailedError
from segaudit.trainer import Trainer
from segaudit.verbs import VERBS


class CLI(LightningCLI):
    """Lightning's verbs, and `audit`."""

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Verbs, and the arguments that come from elsewhere."""
        return LightningCLI.subcommands() | {"audit": {"model", "datamodule"}}

    def _parse_ckpt_path(self) -> None:
        # Lightning would look into the checkpoint for arguments of the model; an audit takes these from the configuration
        # and nothing but weights from a file that may come from anywhere.
        if self.config.get("subcommand") != "audit":
            super()._parse_ckpt_path()


def main(args: ArgsType = None) -> None:
    """Run the program.

    Beside Lightning's verbs there are ``explainers [name]`` and ``scores [name]``, which list them or tell all about one.

    What the user can mend is told in one sentence, with the exit status 2; ``SEGAUDIT_TRACEBACK=1`` shows where it arose.

    Args:
        args: the command line; None stands for that of the process.

    """
    # Lightning calls torch in a way that torch is giving up; nothing that the user can mend.
    warnings.filterwarnings("ignore", message=".*treespec.*")
    words = sys.argv[1:] if args is None else args
    try:
        if isinstance(words, list) and words and words[0] in VERBS:
            VERBS[words[0]](words[1:])
            sys.stdout.flush()
            return
        CLI(
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
    except AuditFailedError as failure:
        print(f"segaudit: the audit fails. {failure}", file=sys.stderr)
        sys.exit(3)
    except (ValueError, OSError, MisconfigurationException) as error:
        sentence = _sentence(error)
        if os.environ.get("SEGAUDIT_TRACEBACK") or not sentence:
            raise
        print(f"segaudit: {sentence}\n(SEGAUDIT_TRACEBACK=1 shows where this arose.)", file=sys.stderr)
        sys.exit(2)


def _sentence(error: Exception) -> str:
    """What to tell the user; nothing for an error that a library raised because it was called wrongly."""
    # A constructor's error is hidden in jsonargparse's account of all that the value could have been but isn't.
    if str(error).startswith("Does not validate"):
        reasons = [x for x in re.findall(r"^ +- (.*)", str(error), re.MULTILINE) if not x.startswith("Expected a")]
        return "; ".join(reasons) or str(error)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return (
            f"there is no room for {error.filename or 'what should be written'} ({error.strerror}): free some space and run "
            "this again; what was written before is whole."
        )
    if not isinstance(error, ValueError):
        return str(error)
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    origins = type(error).__module__, str(frame.f_globals.get("__name__"))
    return str(error) if any(name.startswith("segaudit.") for name in origins) else ""
