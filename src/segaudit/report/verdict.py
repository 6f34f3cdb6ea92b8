"""Writes the findings of an audit as sentences."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from segaudit.formatting import estimate, interval, number, p_value, percent
from segaudit.records.summary import VERDICT_SCORE, default_main
from segaudit.statistics.verdict import LEAST_UNITS

#: A larger share of targets without a score is worth a warning.
_MANY_UNSCORED = 0.25
#: A larger share of credit on pixels that the model does not use is worth a warning.
_MUCH_UNSUPPORTED = 0.1
#: Beginnings of scores that many targets lack by their nature.
_OFTEN_MISSING = ("cue_", "second_fill_")
#: Losing units that are named; more are counted.
_NAMED = 3
#: Completes "... lack a score, because ..." for the reasons that segaudit gives.
_BECAUSE = {
    "empty region": "the region is empty",
    "confidence not finite": "the confidence is not finite",
    "map not finite": "the map is not finite",
    "constant map": "the map is constant",
    "no positive mass": "the map has no positive mass",
    "region is the whole image": "the region is the whole image",
    "fill too weak": "the fill is too weak",
    "second fill too weak": "the second fill is too weak",
    "no second fill": "there is no second fill",
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

    Every sentence names the figures that it rests on. With fewer than five images (or groups, where the data name some),
    nothing is called good or bad.

    Args:
        summary: content of ``summary.json``.
        part: the network and data set, one of its ``parts``.

    """
    rows = {(row["explainer"], row["score"]): row for row in part["scores"]}
    main = main_of(summary, part)
    makers = (_accuracy, _faithfulness, _second_fill, _leakage, _robustness, _cue, _coverage)
    found = [finding for make in makers for finding in make(summary, part, rows, main)]
    count, unit = part.get("units", part["images"]), _unit(part)
    if 0 < count < LEAST_UNITS:
        found = [finding._replace(kind="plain") for finding in found]
        few = f"{_plural(count, f'{unit} is', f'{unit}s are')} too few to draw conclusions; {LEAST_UNITS} is the least."
        found.append(Finding("bad", f"few {unit}s", few))
    return found


def main_of(summary: Mapping[str, Any], part: Mapping[str, Any]) -> str:
    """Return the explainer of the verdict: the summary's main one, else ``dea``, else the first that is no control."""
    explainers = list(dict.fromkeys(row["explainer"] for row in part["scores"]))
    return summary.get("main") or default_main(explainers, summary["controls"])


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
    row = rows.get((main, VERDICT_SCORE))
    if row is None:
        return []
    if row["mean"] is None:
        return [_nothing("faithfulness", VERDICT_SCORE, main)]
    text, judged = f"The faithfulness gap of {main} is {_value(row)}", part.get("verdict")
    if judged is None:
        found = [Finding("plain", "faithfulness", f"{text}. No control was audited to compare it with.")]
    else:
        kind, sentences = _OUTCOMES[judged["outcome"]](main, judged, _unit(part))
        found = [Finding(kind, "faithfulness", " ".join([f"{text}.", *sentences, *_lost(judged["controls"], _unit(part))]))]
    return [*found, *_exploratory(summary, part, rows, main)]


def _above(main: str, judged: Mapping[str, Any], unit: str) -> tuple[str, list[str]]:
    controls = judged["controls"]
    pairs = ", ".join(_pair(one, "p_value") for one in controls)
    # The random map alone is no bar.
    kind = "good" if "target_mask" in [one["control"] for one in controls] else "plain"
    return kind, [f"It is above every control: by {pairs}, over {_units(controls, unit)}."]


def _below(main: str, judged: Mapping[str, Any], unit: str) -> tuple[str, list[str]]:
    controls = judged["controls"]
    worst = min(controls, key=lambda one: (one["p_below"], one["mean"]))
    text = f"It is below {worst['control']}: the difference is {_pair(worst, 'p_below')}, over {_units(controls, unit)}"
    return "bad", [f"{text}. Do not read its maps as reasons."]


def _cannot_tell(main: str, judged: Mapping[str, Any], unit: str) -> tuple[str, list[str]]:
    controls, needed = judged["controls"], judged["units_needed"]
    unclear = [one for one in controls if one["p_value"] is None or one["p_value"] > 0.05] or controls
    clear = [one for one in controls if one not in unclear]
    names, pairs = _listed([one["control"] for one in unclear]), ", ".join(_pair(one, "p_value") for one in unclear)
    sentences = [f"Whether it is above {names} cannot be told from {_units(controls, unit)}: the difference is {pairs}."]
    if clear:
        sentences.append(f"It is above {', '.join(_pair(one, 'p_value', by=True) for one in clear)}.")
    if needed is not None:
        sentences.append(f"About {needed} {unit}s would be enough if the difference stays as it looks.")
    elif any(one["wins"] is None for one in unclear):  # from a summary of format 1, which has no number
        pass
    elif all((one["mean"] or 0) > 0 for one in unclear):
        sentences.append(f"The difference is so small that even 1000 {unit}s would not be enough if it stays as it looks.")
    else:
        sentences.append(f"No number of {unit}s would show it above if the difference stays as it looks.")
    return "plain", sentences


_OUTCOMES = {"above": _above, "below": _below, "cannot tell": _cannot_tell}


def _pair(one: Mapping[str, Any], p: str, by: bool = False) -> str:
    difference = f"{number(one['mean'], signed=True)}{_ends(one)}"
    figures = f"p {_p(one[p])}"
    return f"{one['control']} by {difference} ({figures})" if by else f"{difference} against {one['control']} ({figures})"


def _p(value: float | None) -> str:
    text = p_value(value)
    return text if text.startswith("<") else f"= {text}"


def _units(controls: list[Mapping[str, Any]], unit: str) -> str:
    fewest = min(one["units"] for one in controls)
    return _plural(fewest, unit, f"{unit}s")


def _lost(controls: list[Mapping[str, Any]], unit: str) -> list[str]:
    """Name the units that lose strongly to a control although most win."""
    sentences = []
    for one in controls:
        if lost := one["losses"]:
            named = [f"{loss['unit']} ({number(loss['difference'], signed=True)})" for loss in lost[:_NAMED]]
            more = [f"{len(lost) - _NAMED} more"] if len(lost) > _NAMED else []
            verb, them = ("loses", "it") if len(lost) == 1 else ("lose", "them")
            sentences.append(
                f"Most {unit}s agree ({one['wins']} of {one['units']} are above {one['control']}), but "
                f"{_listed([*named, *more])} {verb} strongly to {one['control']}: look at {them}."
            )
    return sentences


def _exploratory(summary: Mapping[str, Any], part: Mapping[str, Any], rows: _Rows, main: str) -> list[Finding]:
    """Say how other explainers compare; their p-values are adjusted for all comparisons, which nobody planned."""
    gaps = {e: gap["mean"] for (e, score), gap in rows.items() if score == VERDICT_SCORE and gap["mean"] is not None}
    against: dict[str, list[bool]] = {}
    for pair in part["above_controls"]:
        sure = pair["p_value"] is not None and pair["p_value"] <= 0.05 and pair["mean"] > 0
        against.setdefault(pair["explainer"], []).append(sure)
    above = [name for name, sure in against.items() if all(sure)]
    sentences = []
    if above:
        verb = "is" if len(above) == 1 else "are"
        sentences.append(f"{_listed(above)} {verb} above every control too.")
    ahead = {e: gap for e, gap in gaps.items() if e != main and e not in summary["controls"] and gap > gaps[main]}
    if ahead:
        best = max(ahead, key=lambda name: ahead[name])
        text = f"The highest mean gap is that of {best} ({number(ahead[best])})."
        insertion = rows.get((best, "insertion_auc"))
        if insertion is not None and (insertion["mean"] or 0) > 1:
            text += (
                " Its partly filled images give a higher confidence than the images themselves, so this gap depends on the "
                "fill as much as on the map."
            )
        sentences.append(text)
    if not sentences:
        return []
    sentences.append("This is exploratory: p-values are adjusted for all comparisons of the other explainers.")
    return [Finding("plain", "other explainers", " ".join(sentences))]


def _second_fill(summary: Mapping[str, Any], part: Mapping[str, Any], rows: _Rows, main: str) -> list[Finding]:
    """Say whether the comparison with the controls comes out alike when pixels are filled by something else."""
    if (main, "second_fill_gap") not in rows:
        return []
    pairs = [pair for pair in part.get("second_fill", []) if pair["explainer"] == main and pair["mean"] is not None]
    targets = min((pair["targets"] for pair in pairs), default=0)
    if not targets:
        return [Finding("plain", "second fill", "A second fill cannot tell: it is too weak for every target.")]
    first, second = (_against_controls(pairs, prefix) for prefix in ("first_", ""))
    shown = "; ".join(
        f"{number(pair['mean'], signed=True)} against {pair['control']}, under the first fill "
        f"{number(pair['first_mean'], signed=True)}"
        for pair in pairs
    )
    where = f"for {targets} of {_plural(part['targets'], 'target', 'targets')}, where it is strong enough"
    differs = "cannot tell" not in (first, second) and first != second
    told = {"above": "above every control", "below": "below some control"}
    if first == second == "cannot tell":
        said = f"A second fill cannot tell whether {main} is above every control, and there neither can the first"
    elif second == "cannot tell":
        said = f"A second fill cannot tell whether {main} is above every control"
    elif first == "cannot tell":
        said = f"Under a second fill {main} is {told[second]}, and there the first fill cannot tell"
    elif differs:
        said = f"A second fill does not agree: under it {main} is {told[second]}, under the first it is {told[first]}"
    else:
        said = f"A second fill agrees that {main} is {told[first]}"
    return [Finding("bad" if differs else "plain", "second fill", f"{said}. This is {where}: the difference is {shown}.")]


def _against_controls(pairs: Sequence[Mapping[str, Any]], prefix: str) -> str:
    """Decide for one fill: ``above`` every control, ``below`` some (Bonferroni), or ``cannot tell``."""
    found = [(pair[f"{prefix}mean"], pair[f"{prefix}p_value"]) for pair in pairs]
    if any(p is not None and p * len(found) <= 0.05 and mean < 0 for mean, p in found):
        return "below"
    return "above" if all(p is not None and p <= 0.05 and mean > 0 for mean, p in found) else "cannot tell"


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
        s: row["unscored"]
        for (e, s), row in rows.items()
        if e == main and row["unscored"] and not s.startswith(_OFTEN_MISSING)
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


def _unit(part: Mapping[str, Any]) -> str:
    """Return what is independent in the data: ``image``, or ``group`` where the data name groups."""
    return str(part.get("unit", "image"))


def _listed(names: list[str]) -> str:
    """Join names: ``a``, ``a and b``, ``a, b and c``."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _plural(count: int, singular: str, plural: str) -> str:
    return f"{count} {singular if count == 1 else plural}"
