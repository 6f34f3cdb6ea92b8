"""The program `segaudit`: Lightning's verbs on the command line, everything chosen in YAML."""

import os
import sys
import warnings
from typing import Any

import segmentation_models_pytorch  # noqa: F401 -- imported, as the next ones are, so that its classes have short names
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import LightningDataModule, LightningModule
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI

import segaudit.callbacks
import segaudit.data
import segaudit.task
from segaudit.errors import OneSentence, sentence
from segaudit.report import AuditFailedError
from segaudit.report.terminal import any_characters
from segaudit.trainer import Trainer
from segaudit.verbs import VERBS


class Parser(OneSentence, LightningArgumentParser):
    """Says what is wrong with the configuration."""


class CLI(LightningCLI):
    """Lightning's verbs, and `audit`."""

    def init_parser(self, **kwargs: Any) -> LightningArgumentParser:
        """A parser, and one for each verb, that says what is wrong in one sentence."""
        made = super().init_parser(**kwargs)
        made.__class__ = Parser  # Lightning names its class in the method
        return made

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
            with any_characters():
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
    except (ValueError, KeyError, TypeError, OSError, MisconfigurationException) as error:
        told = sentence(error)
        if os.environ.get("SEGAUDIT_TRACEBACK") or not told:
            raise
        print(f"segaudit: {told}\n(SEGAUDIT_TRACEBACK=1 shows where this arose.)", file=sys.stderr)
        sys.exit(2)
