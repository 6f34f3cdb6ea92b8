"""Turns an error into one sentence for the user, or into nothing where a traceback says more."""

import errno
import importlib
import inspect
import os
import re
import sys
import traceback
from typing import NoReturn

from jsonargparse import ArgumentParser

from segaudit.names import did_you_mean

#: A sentence is cut here: what a library lists behind it helps nobody.
_MOST = 500
#: Lines of jsonargparse's account that say nothing of what is wrong.
_NOISE = re.compile(
    r"Does not validate|Subtypes:|Errors:|Given value|Subclass types expect|Not a valid subclass|a class path|a dict "
)
#: What is expected is told from what was given, or a name is.
_SPECIFIC = re.compile(r"Got value|import path string")
#: Where short names of classes come from, for a guess at what was meant.
_PACKAGES = (
    "segaudit.callbacks",
    "segaudit.data",
    "segaudit.training.task",
    "segaudit.attribution",
    "segaudit.intervention",
    "segaudit.metrics",
    "segaudit.selection",
    "segaudit",
    "lightning.pytorch.callbacks",
    "lightning.pytorch.loggers",
)
#: Where training has begun, an error is a bug, and its place matters.
_STEPS = {"training_step", "validation_step", "test_step", "predict_step", "backward", "optimizer_step"}


class OneSentenceParser(ArgumentParser):
    """Tells in one sentence what is wrong, without the usage."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Leave with the exit status 2."""
        if not self.exit_on_error:
            super().error(message, ex)
        if os.environ.get("SEGAUDIT_TRACEBACK") and ex is not None:
            raise ex
        print(f"segaudit: {parser_sentence(message)}\n(`{self.prog} --help` lists all options.)", file=sys.stderr)
        sys.exit(2)


def sentence(error: Exception) -> str:
    """Return what to tell the user; nothing for an error that only a traceback explains.

    Errors of segaudit's own, of the operating system and of Lightning's configuration are told as they are. A library's
    ValueError is told where it refuses what the configuration says, before the first batch has been worked on.
    """
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return (
            f"there is no room for {error.filename or 'what should be written'} ({error.strerror}): free some space and run "
            "this again; what was written before is whole."
        )
    if not isinstance(error, ValueError | KeyError | TypeError):
        return _cut(str(error))
    text = str(error.args[0] if isinstance(error, KeyError) and error.args else error)
    if text.startswith(("Does not validate", "Parser key")):
        return parser_sentence(text)
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    origin = str(frames[-1].f_globals.get("__name__")) if frames else ""
    ours = any(name.startswith("segaudit.") for name in (type(error).__module__, origin))
    if isinstance(error, ValueError) and (ours or not _STEPS & {frame.f_code.co_name for frame in frames}):
        return _cut(text if ours else f"{origin.partition('.')[0]}: {text}")
    return ""


def parser_sentence(text: str) -> str:
    """Return the one thing that is wrong and its place, out of jsonargparse's account of all that a value could be.

    Example:
        >>> parser_sentence('''Parser key "model":
        ...   Problem with given class_path 'segaudit.training.task.SegmentationTask':
        ...     Parser key "ignore_index":
        ...       Expected a <class 'int'>. Got value: none''')
        "model: SegmentationTask: ignore_index: expected int, got 'none'."

    """
    text = re.sub(r"\d+ validation errors? for \w+\n\s+(\w+)\n\s+(.*?) \[type=.*", r"\1: \2", text)  # pydantic's
    places: list[tuple[int, str]] = []
    leaves: list[tuple[bool, list[str], str]] = []
    given: dict[str, str] = {}
    for line in filter(str.strip, text.splitlines()):
        content = line.lstrip(" -")
        indent = len(line) - len(content)
        while places and places[-1][0] >= indent:
            places.pop()
        if found := re.match(r"Parser key \"(.+?)\":|Problem with given class_path '(.+?)':", content):
            places.append((indent, found[1] or found[2]))
            content = content[found.end() :].strip()
        where = [place for _, place in places]
        if content.startswith("Given value: "):
            given[str(where)] = content.removeprefix("Given value: ")
        elif content and not _NOISE.match(content):
            leaves.append((content.startswith("Expected a") and not _SPECIFIC.search(content), where, content))
    if not leaves:
        return _cut(text.splitlines()[0])
    vague, where, what = min(leaves, key=lambda leaf: (-len(leaf[1]), leaf[0]))
    if vague:
        kinds = [found[1] for _, place, of in leaves if place == where and (found := re.search(r"'(?:.*\.)?(\w+)'", of))]
        wanted = " or ".join(dict.fromkeys(kind for kind in kinds if kind != "NoneType"))
        plain = f"expected {wanted}, got {given.get(str(where), 'something else')!r}"
    else:
        plain = _plain(what, where[-1] if where else "")
    path = ": ".join(place.rpartition(".")[2] if _is_class(place) else place for place in where)
    told = _cut(f"{path}: {plain}" if path else plain)
    return told if told.endswith(("?", "…")) else told.rstrip(".") + "."


def _plain(what: str, where: str) -> str:
    if what[0] == what[-1] and what[0] in "\"'":  # a KeyError's
        what = what[1:-1]
    if found := re.match(r"Expected a (?:<class '(?:.*\.)?(\w+)'>|(.+?))\. Got value: (.*)", what):
        wanted = found[1] or re.sub(r"^typing\.Literal\[(.*)\]$", r"one of \1", found[2])
        return f"expected {wanted}, got {found[3]!r}"
    if found := re.match(r"Option '(.+?)' is not accepted", what):
        return f"there is no option {found[1]!r}.{did_you_mean(found[1], _parameters(where))}"
    if found := re.search(r"module '(.+?)' has no attribute '(.+?)'", what):
        return f"{found[1]} has no {found[2]!r}.{did_you_mean(found[2], _names(found[1]))}"
    if found := re.match(r"Expected a dot import path string: (.*)", what):
        near = did_you_mean(found[1], (name for package in _PACKAGES for name in _names(package)))
        return f"there is no class {found[1]!r}.{near}" if near else f"there is no class {found[1]!r}: write its whole path"
    if found := re.match(r"the following arguments are required: (.*)", what):
        return f"{re.sub(r'^(fit|validate|test|predict|audit)[.]', '', found[1])} is missing"
    return re.sub(r"^Subcommand '\w+' does not accept option '(.+)'", r"there is no option '\1'", what)


def _is_class(path: str) -> bool:
    return path.rpartition(".")[2][:1].isupper()


def _names(module: str) -> list[str]:
    try:
        return dir(importlib.import_module(module))
    except ImportError:
        return []


def _parameters(path: str) -> list[str]:
    module, _, name = path.rpartition(".")
    try:
        return list(inspect.signature(getattr(importlib.import_module(module), name)).parameters)
    except (ImportError, AttributeError, TypeError, ValueError):
        return []


def _cut(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _MOST else text[:_MOST] + " …"
