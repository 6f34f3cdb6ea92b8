"""Starts the program `segaudit`: Lightning's verbs and segaudit's own, everything chosen in YAML."""

import os
import sys

from segaudit.names import did_you_mean

__all__ = ["main"]

#: Every verb, and what it does.
VERBS = {
    "fit": "train a model and audit its explanations while it trains",
    "validate": "compute the scores and the audit of a checkpoint's validation split",
    "test": "compute the scores and the audit of a checkpoint's test split",
    "predict": "write the predicted mask of every test image",
    "audit": "audit a checkpoint over a whole split and write a report",
    "benchmark": "audit networks on data sets with explainers and scores, and lay the results side by side",
    "report": "write one self-contained HTML page about runs",
    "compare": "print paired differences of two or more audits from the first",
    "select": "choose among all epochs of finished runs by accuracy and explanation",
    "explainers": "list the explainers, or tell all about one",
    "scores": "list the scores, or tell all about one",
    "workspace": "save a W&B workspace for a run's audits",
}
#: Those that Lightning's own command line takes care of.
LIGHTNING = ("fit", "validate", "test", "predict", "audit")


def main(args: list[str] | None = None) -> None:
    """Run the program.

    Errors that the user can mend are told in one sentence, with the exit status 2. ``SEGAUDIT_TRACEBACK=1`` shows where
    they arose.

    Args:
        args: the command line. Defaults to that of the process.

    """
    words = sys.argv[1:] if args is None else args
    if isinstance(words, list):  # help and a wrong verb are answered before anything heavy is imported
        if not words or words[0] in ("-h", "--help", "help"):
            print(_help())
            sys.exit(0 if words else 2)
        if words[0] == "--version":
            from segaudit import __version__

            print(f"segaudit {__version__}")
            return
        if words[0] not in VERBS and not words[0].startswith("-"):
            print(
                f"segaudit: there is no verb {words[0]!r}.{did_you_mean(words[0], VERBS)} There are {', '.join(VERBS)}.",
                file=sys.stderr,
            )
            sys.exit(2)
    if os.getcwd() not in sys.path:  # as with `python -m`: a class_path may name a file beside the configuration
        sys.path.append(os.getcwd())
    from segaudit.cli.program import run

    run(args)


def _help() -> str:
    wide = max(map(len, VERBS))
    lines = [f"  {verb:<{wide}}  {text}" for verb, text in VERBS.items()]
    return "\n".join(
        [
            "usage: segaudit VERB [options]",
            "",
            "Train semantic segmentation models and audit their explanations while they train.",
            "",
            *lines,
            "",
            "`segaudit VERB --help` lists the options of a verb, `segaudit --version` tells the version.",
        ]
    )
