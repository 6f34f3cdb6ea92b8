"""What an audit comes to, in words."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from segaudit.records.summary import FEW_IMAGES

#: More targets than this without a score are worth a warning.
_MANY_UNSCORED = 0.25
#: More credit than this on pixels that the model does not use is worth a warning.
_MUCH_UNSUPPORTED = 0.1
_FAITHFULNESS = "faithfulness_gap"


class Finding(NamedTuple):
    """One sentence of a verdict.

    Attributes:
        kind: ``good``, ``bad``, or ``plain`` where it is neither.
        about: a word or two.
        text: the sentence.

    """

    kind: str
    about: str
    text: str


def verdict(summary: Mapping[str, Any], part: Mapping[str, Any]) -> list[Finding]:
    """What one network's scores on one data set say of the main explainer, and how far they can be trusted.

    Every sentence rests on figures of the summary and names them. Nothing is called good or bad with fewer than six images.
    """
    rows = {(row["explainer"], row["score"]): row for row in part["scores"]}
    main = main_of(summary, part)
    makers = (_accuracy, _faithfulness, _leakage, _robustness, _cue, _coverage)
    found = [finding for make in makers for finding in make(summary, part, rows, main)]
    if 0 < part["images"] < FEW_IMAGES:
        found = [finding._replace(kind="plain") for finding in found]
        found.append(Finding("bad", "few images", f"{part['images']} images are too few to conclude anything from."))
    return found


def main_of(summary: Mapping[str, Any], part: Mapping[str, Any]) -> str:
    """The explainer that the verdict is about: the summary's, else ``dea``, else the first that is no control."""
    explainers = list(dict.fromkeys(row["explainer"] for row in part["scores"]))
    ours = [name for name in explainers if name not in summary["controls"]] or explainers
    return summary.get("main") or ("dea" if "dea" in ours else next(iter(ours), ""))


_Rows = Mapping[tuple[str, str], Mapping[str, Any]]


def _accuracy(summary: Mapping[str, Any], part: Mapping[str, Any], rows: _Rows, main: str) -> list[Finding]:
    mean = part["iou"].get("mean")
    if mean is None:
        return [Finding("plain", "accuracy", "There was no ground truth: accuracy is not known.")]
    known = {name: value for name, value in part["iou"].items() if name != "mean" and value is not None}
    text = f"Mean IoU over {part['images']} images is {mean:.3f}"
    if known:
        least = min(known.values())
        weakest = [name for name, value in known.items() if value == least]
        text += f"; the weakest {'class is' if len(weakest) == 1 else 'classes are'} {', '.join(weakest)} ({least:.3f})"
    return [Finding("plain", "accuracy", f"{text}.")]


def _faithfulness(summary: Mapping[str, Any], part: Mapping[str, Any], rows: _Rows, main: str) -> list[Finding]:
    row = rows.get((main, _FAITHFULNESS))
    if row is None:
        return []
    if row["mean"] is None:
        return [_nothing("faithfulness", _FAITHFULNESS, main)]
    text = f"The faithfulness gap of {main} is {_value(row)}"
    compared = [one for one in part["above_controls"] if one["explainer"] == main and one["mean"] is not None]
    if not compared:
        return [Finding("plain", "faithfulness", f"{text}. No control was audited beside it.")]
    told = [f"{one['mean']:+.3f}{_ends(one)} against {one['control']}" for one in compared]
    text += f"; paired with the controls, {', '.join(told)}"
    better = all(one["p_value"] is not None and one["p_value"] <= 0.05 and one["mean"] > 0 for one in compared)
    if not better:
        text += ". That is not clearly above every control: do not read its maps as reasons"
    kind = "bad" if not better else "good" if "target_mask" in [one["control"] for one in compared] else "plain"
    gaps = {e: one["mean"] for (e, score), one in rows.items() if score == _FAITHFULNESS and one["mean"] is not None}
    ahead = {e: gap for e, gap in gaps.items() if e not in summary["controls"] and gap > gaps[main]}
    if ahead:
        best = max(ahead, key=lambda name: ahead[name])
        text += f". The highest mean gap is that of {best} ({ahead[best]:.3f})"
        insertion = rows.get((best, "insertion_auc"))
        if insertion is not None and (insertion["mean"] or 0) > 1:
            text += (
                ", whose partly filled images score higher than the whole ones, which says as much of the fill as of the map"
            )
    return [Finding(kind, "faithfulness", f"{text}.")]


def _leakage(summary: Mapping[str, Any], part: Mapping[str, Any], rows: _Rows, main: str) -> list[Finding]:
    leakage, unsupported = (rows.get((main, name)) for name in ("off_target_leakage", "unsupported_leakage"))
    if leakage is None:
        return []
    if leakage["mean"] is None:
        return [_nothing("leakage", "off_target_leakage", main)]
    text = f"{leakage['mean']:.1%} of the credit of {main} lies outside the target"
    if unsupported is None or unsupported["mean"] is None:
        return [Finding("plain", "leakage", f"{text}.")]
    text += f"; {unsupported['mean']:.1%} lies where filling the region lowers the score by at most 1 %, and is unsupported"
    much = unsupported["mean"] > _MUCH_UNSUPPORTED
    return [Finding("bad" if much else "plain", "leakage", f"{text}.")]


def _robustness(summary: Mapping[str, Any], part: Mapping[str, Any], rows: _Rows, main: str) -> list[Finding]:
    stability, kept = (rows.get((main, name)) for name in ("stability", "stability_retention"))
    if stability is None:
        return []
    if stability["mean"] is None:
        return [_nothing("robustness", "stability", main)]
    text = f"Under changes that keep the prediction, the rank correlation of {main}'s maps is {_value(stability)}"
    bad = stability["mean"] < 0.5
    if kept is not None and kept["mean"] is not None:
        text += f"; {kept['mean']:.0%} of the changed images kept it"
        bad = bad or kept["mean"] < 0.5
    return [Finding("bad" if bad else "plain", "robustness", f"{text}. A stable map may still be wrong.")]


def _cue(summary: Mapping[str, Any], part: Mapping[str, Any], rows: _Rows, main: str) -> list[Finding]:
    effect, mass = rows.get((main, "cue_effect")), rows.get((main, "cue_mass"))
    if effect is None or effect["mean"] is None:
        return []
    turn = "falls" if effect["mean"] >= 0 else "rises"
    text = f"Without the planted cue the score {turn} by {abs(effect['mean']):.0%} on average"
    if mass is not None and mass["mean"] is not None:
        text += f"; {main} puts {mass['mean']:.0%} of its credit there"
    if effect["mean"] > 0.3:
        return [Finding("bad", "planted cue", f"{text}. The model leans on it.")]
    return [Finding("plain", "planted cue", f"{text}.")]


def _coverage(summary: Mapping[str, Any], part: Mapping[str, Any], rows: _Rows, main: str) -> list[Finding]:
    targets, reasons = part["targets"], part["unscored"].get(main, {})
    if not targets:
        return [
            Finding("bad", "coverage", "There was no target to audit: the model predicts none of the classes asked for.")
        ]
    if not reasons:
        return [Finding("plain", "coverage", f"All {targets} targets could be scored.")]
    told = ", ".join(f"{reason} ({count})" for reason, count in sorted(reasons.items(), key=lambda item: -item[1])[:3])
    missing = {
        s: row["unscored"] for (e, s), row in rows.items() if e == main and row["unscored"] and not s.startswith("cue_")
    }
    text = f"Of {targets} targets some miss a score of {main}: {told}."
    if missing:
        worst = max(missing, key=lambda name: missing[name])
        text += f" {worst} misses most, {missing[worst]} of {targets}: its mean speaks for the others only."
    many = bool(missing) and max(missing.values()) > _MANY_UNSCORED * targets
    return [Finding("bad" if many else "plain", "coverage", text)]


def _nothing(about: str, score: str, main: str) -> Finding:
    return Finding("bad", about, f"{score} of {main} could not be scored for a single target.")


def _value(row: Mapping[str, Any]) -> str:
    return f"{row['mean']:.3f}{_ends(row)}"


def _ends(row: Mapping[str, Any]) -> str:
    return "" if row["low"] is None else f" [{row['low']:.3f}, {row['high']:.3f}]"
