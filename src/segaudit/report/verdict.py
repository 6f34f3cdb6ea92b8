"""Writes the findings of an audit as sentences."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from segaudit.formatting import estimate, interval, number, percent
from segaudit.records.summary import FEW_IMAGES

#: A larger share of targets without a score is worth a warning.
_MANY_UNSCORED = 0.25
#: A larger share of credit on pixels that the model does not use is worth a warning.
_MUCH_UNSUPPORTED = 0.1
_FAITHFULNESS = "faithfulness_gap"
#: Completes "... lack a score, because ..." for the reasons that segaudit gives.
_BECAUSE = {
    "empty region": "the region is empty",
    "confidence not finite": "the confidence is not finite",
    "map not finite": "the map is not finite",
    "constant map": "the map is constant",
    "no positive mass": "the map has no positive mass",
    "region is the whole image": "the region is the whole image",
    "fill too weak": "the fill is too weak",
    "prediction not kept": "the prediction was not kept under perturbations",
    "perturbed map constant or not finite": "a perturbed map is constant or not finite",
    "no segment has an effect": "no segment has an effect",
    "no difference of effect between segments": "all segments have the same effect",
    "no segment has credit": "no segment has credit",
    "no difference of credit between segments": "all segments have the same credit",
    "the areas of the segments explain the differences": "the areas of the segments explain all differences between them",
    "no other image of the class": "no other image has the class",
    "the maps of different images are alike": "the maps of different images are alike",
    "no cue": "the image contains no cue",
    "score undefined": "the score is undefined",
}


class Finding(NamedTuple):
    """Holds one finding of a verdict.

    Attributes:
        kind: ``good``, ``bad``, or ``plain`` for neither.
        about: the topic, in a word or two.
        text: one or more sentences.

    """

    kind: str
    about: str
    text: str


def verdict(summary: Mapping[str, Any], part: Mapping[str, Any]) -> list[Finding]:
    """Say what the scores of one network on one data set show about the main explainer.

    Every sentence names the figures that it rests on. With fewer than six images, nothing is called good or bad.

    Args:
        summary: content of ``summary.json``.
        part: the network and data set, one of its ``parts``.

    """
    rows = {(row["explainer"], row["score"]): row for row in part["scores"]}
    main = main_of(summary, part)
    makers = (_accuracy, _faithfulness, _leakage, _robustness, _cue, _coverage)
    found = [finding for make in makers for finding in make(summary, part, rows, main)]
    if 0 < part["images"] < FEW_IMAGES:
        found = [finding._replace(kind="plain") for finding in found]
        found.append(
            Finding("bad", "few images", f"{_plural(part['images'], 'image is', 'images are')} too few to draw conclusions.")
        )
    return found


def main_of(summary: Mapping[str, Any], part: Mapping[str, Any]) -> str:
    """Return the explainer of the verdict: the summary's main one, else ``dea``, else the first that is no control."""
    explainers = list(dict.fromkeys(row["explainer"] for row in part["scores"]))
    ours = [name for name in explainers if name not in summary["controls"]] or explainers
    return summary.get("main") or ("dea" if "dea" in ours else next(iter(ours), ""))


_Rows = Mapping[tuple[str, str], Mapping[str, Any]]


def _accuracy(summary: Mapping[str, Any], part: Mapping[str, Any], rows: _Rows, main: str) -> list[Finding]:
    mean = part["iou"].get("mean")
    if mean is None:
        return [Finding("plain", "accuracy", "There was no ground truth, so the accuracy is not known.")]
    known = {name: value for name, value in part["iou"].items() if name != "mean" and value is not None}
    text = f"Mean IoU over {_plural(part['images'], 'image', 'images')} is {number(mean)}"
    if known:
        least = min(known.values())
        weakest = [name for name, value in known.items() if value == least]
        text += f"; the weakest {'class is' if len(weakest) == 1 else 'classes are'} {', '.join(weakest)} ({number(least)})"
    return [Finding("plain", "accuracy", f"{text}.")]


def _faithfulness(summary: Mapping[str, Any], part: Mapping[str, Any], rows: _Rows, main: str) -> list[Finding]:
    row = rows.get((main, _FAITHFULNESS))
    if row is None:
        return []
    if row["mean"] is None:
        return [_nothing("faithfulness", _FAITHFULNESS, main)]
    text = f"The faithfulness gap of {main} is {_value(row)}"
    compared = [pair for pair in part["above_controls"] if pair["explainer"] == main and pair["mean"] is not None]
    if not compared:
        return [Finding("plain", "faithfulness", f"{text}. No control was audited to compare it with.")]
    pairs = [f"{number(pair['mean'], signed=True)}{_ends(pair)} against {pair['control']}" for pair in compared]
    text += f"; its paired difference is {', '.join(pairs)}"
    better = all(pair["p_value"] is not None and pair["p_value"] <= 0.05 and pair["mean"] > 0 for pair in compared)
    if not better:
        text += ". It is not clearly above every control, so do not read its maps as reasons"
    kind = "bad" if not better else "good" if "target_mask" in [pair["control"] for pair in compared] else "plain"
    gaps = {e: gap["mean"] for (e, score), gap in rows.items() if score == _FAITHFULNESS and gap["mean"] is not None}
    ahead = {e: gap for e, gap in gaps.items() if e not in summary["controls"] and gap > gaps[main]}
    if ahead:
        best = max(ahead, key=lambda name: ahead[name])
        text += f". The highest mean gap is that of {best} ({number(ahead[best])})"
        insertion = rows.get((best, "insertion_auc"))
        if insertion is not None and (insertion["mean"] or 0) > 1:
            text += (
                ". Its partly filled images give a higher confidence than the images themselves, so this gap depends on the "
                "fill as much as on the map"
            )
    return [Finding(kind, "faithfulness", f"{text}.")]


def _leakage(summary: Mapping[str, Any], part: Mapping[str, Any], rows: _Rows, main: str) -> list[Finding]:
    leakage, unsupported = (rows.get((main, name)) for name in ("off_target_leakage", "unsupported_leakage"))
    if leakage is None:
        return []
    if leakage["mean"] is None:
        return [_nothing("leakage", "off_target_leakage", main)]
    text = f"{percent(leakage['mean'], 1)} of the credit of {main} lies outside the target"
    if unsupported is None or unsupported["mean"] is None:
        return [Finding("plain", "leakage", f"{text}.")]
    text += (
        f"; {percent(unsupported['mean'], 1)} falls on segments that the model does not use (removing them lowers its "
        "confidence by 1 % or less)"
    )
    much = unsupported["mean"] > _MUCH_UNSUPPORTED
    return [Finding("bad" if much else "plain", "leakage", f"{text}.")]


def _robustness(summary: Mapping[str, Any], part: Mapping[str, Any], rows: _Rows, main: str) -> list[Finding]:
    stability, retention = (rows.get((main, name)) for name in ("stability", "stability_retention"))
    if stability is None:
        return []
    if stability["mean"] is None:
        return [_nothing("robustness", "stability", main)]
    text = (
        f"Where a perturbation leaves the prediction alone, the rank correlation of {main}'s maps lies {_value(stability)} "
        "above chance (0: like maps of other images, 1: unchanged)"
    )
    bad = stability["mean"] < 0.5
    if retention is not None and retention["mean"] is not None:
        text += f"; {percent(retention['mean'])} of the predictions were kept"
        bad = bad or retention["mean"] < 0.5
    return [Finding("bad" if bad else "plain", "robustness", f"{text}. A stable map may still be wrong.")]


def _cue(summary: Mapping[str, Any], part: Mapping[str, Any], rows: _Rows, main: str) -> list[Finding]:
    effect, mass = rows.get((main, "cue_effect")), rows.get((main, "cue_mass"))
    if effect is None or effect["mean"] is None:
        return []
    turn = "falls" if effect["mean"] >= 0 else "rises"
    text = f"Without the planted cue the confidence {turn} by {percent(abs(effect['mean']))} on average"
    if mass is not None and mass["mean"] is not None:
        text += f"; {main} puts {percent(mass['mean'])} of its credit on the cue"
    if effect["mean"] > 0.3:
        return [Finding("bad", "planted cue", f"{text}. The model relies on the cue.")]
    return [Finding("plain", "planted cue", f"{text}.")]


def _coverage(summary: Mapping[str, Any], part: Mapping[str, Any], rows: _Rows, main: str) -> list[Finding]:
    targets, reasons = part["targets"], part["unscored"].get(main, {})
    if not targets:
        return [
            Finding(
                "bad", "coverage", "There was no target to audit, because the model predicts none of the chosen classes."
            )
        ]
    if not reasons:
        return [Finding("plain", "coverage", f"All {targets} targets could be scored.")]
    (first, most), *others = sorted(reasons.items(), key=lambda item: -item[1])[:3]
    text = f"{most} of {_plural(targets, 'target', 'targets')} {'lacks' if most == 1 else 'lack'} a score of {main}"
    text += f", because {_because(first)}{''.join(f'; {count} because {_because(reason)}' for reason, count in others)}."
    missing = {
        s: row["unscored"] for (e, s), row in rows.items() if e == main and row["unscored"] and not s.startswith("cue_")
    }
    if missing:
        worst = max(missing, key=lambda name: missing[name])
        text += f" {worst} is missing for {missing[worst]} of {targets}, so its mean describes the others only."
    many = bool(missing) and max(missing.values()) > _MANY_UNSCORED * targets
    return [Finding("bad" if many else "plain", "coverage", text)]


def _nothing(about: str, score: str, main: str) -> Finding:
    return Finding("bad", about, f"{score} of {main} could not be scored for any target.")


def _value(row: Mapping[str, Any]) -> str:
    return estimate(row["mean"], row["low"], row["high"])


def _ends(row: Mapping[str, Any]) -> str:
    ends = interval(row["low"], row["high"], brackets=True)
    return ends and f" {ends}"


def _because(reason: str) -> str:
    """Turn a reason into a clause; that of somebody else's evidence is quoted."""
    if reason.startswith("confidence below"):
        return f"the {reason.replace('below', 'is below')}"
    return _BECAUSE.get(reason) or f"of {reason!r}"


def _plural(count: int, singular: str, plural: str) -> str:
    return f"{count} {singular if count == 1 else plural}"
