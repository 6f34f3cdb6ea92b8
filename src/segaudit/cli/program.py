"""Runs a verb: Lightning's own command line, or one of segaudit's commands."""

import os
import sys
import warnings
from typing import Any

import segmentation_models_pytorch  # noqa: F401 -- imported, as the next ones are, so that its classes have short names
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import LightningDataModule, LightningModule
from lightning.pytorch.cli import ArgsType, LightningArgumentParser

import segaudit.callbacks
import segaudit.data
import segaudit.training
from segaudit.callbacks.lightning_internals import CommandLine
from segaudit.cli.commands import COMMANDS
from segaudit.cli.messages import OneSentenceParser, sentence
from segaudit.report import AuditFailedError
from segaudit.report.terminal import any_characters
from segaudit.training.trainer import Trainer

#: Options of single verbs, which a saved configuration of another verb may hold.
_OF_ONE_VERB = {"weights_only", "verbose", "return_predictions", "split", "max_images", "fail_if"}


class Parser(OneSentenceParser, LightningArgumentParser):
    """Tells what is wrong with the configuration, and takes that of another verb.

    The configuration that `fit` has saved can be given to `audit` and the other way round: options that only the other
    verb has are left out.
    """

    def parse_path(self, *args: Any, **kwargs: Any) -> Any:
        """Read a configuration file."""
        found = super().parse_path(*args, **kwargs)
        known = {action.dest for action in self._actions}
        for name in _OF_ONE_VERB - known:
            if name in found:
                del found[name]
        return found


class CLI(CommandLine):
    """Tells errors of the configuration in one sentence."""

    def init_parser(self, **kwargs: Any) -> LightningArgumentParser:
        """Make a parser, for the program and for each verb."""
        made = super().init_parser(**kwargs)
        made.__class__ = Parser  # Lightning names its class in the method
        return made


def run(args: ArgsType = None) -> None:
    """Run a verb; see :func:`segaudit.cli.main`."""
    # Lightning calls torch in a way that torch is giving up; nothing that the user can mend.
    warnings.filterwarnings("ignore", message=".*treespec.*")
    words = sys.argv[1:] if args is None else args
    try:
        if isinstance(words, list) and words and words[0] in COMMANDS:
            with any_characters():
                COMMANDS[words[0]](words[1:])
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
    except (ValueError, KeyError, TypeError, OSError, MisconfigurationException) as error:
        told = sentence(error)
        if os.environ.get("SEGAUDIT_TRACEBACK") or not told:
            raise
        print(f"segaudit: {told}\n(SEGAUDIT_TRACEBACK=1 shows where this arose.)", file=sys.stderr)
        sys.exit(2)
