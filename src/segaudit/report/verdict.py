"""What an audit comes to, in words."""

from collections.abc import Mapping
from typing import Any, NamedTuple

#: More targets than this without some score are worth a warning.
_MANY_UNSCORED = 0.25


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
    """What one network's scores on one data set say, and how far they can be trusted.

    Every sentence rests on figures of the summary and names them; none is a judgement beyond these.
    """
    rows = {(row["explainer"], row["score"]): row for row in part["scores"]}
    explainers = list(dict.fromkeys(row["explainer"] for row in part["scores"]))
    main = summary.get("main") or ("dea" if "dea" in explainers else next(iter(explainers), ""))
    makers = (_accuracy, _faithfulness, _leakage, _robustness, _cue, _coverage)
    return [finding for make in makers for finding in make(summary, part, rows, main)]


_Rows = Mapping[tuple[str, str], Mapping[str, Any]]


def _accuracy(summary: Mapping[str, Any], part: Mapping[str, Any], rows: _Rows, main: str) -> list[Finding]:
    mean = part["iou"].get("mean")
    if mean is None:
        return [Finding("plain", "accuracy", "There was no ground truth: accuracy is not known.")]
    known = {name: value for name, value in part["iou"].items() if name != "mean" and value is not None}
    text = f"Mean IoU over {part['images']} images is {mean:.3f}"
    if known:
        weakest = min(known, key=lambda name: known[name])
        text += f"; the weakest class is {weakest} ({known[weakest]:.3f})"
    return [Finding("plain", "accuracy", f"{text}.")]


def _faithfulness(summary: Mapping[str, Any], part: Mapping[str, Any], rows: _Rows, main: str) -> list[Finding]:
    controls = summary["controls"]
    gaps = {e: row for (e, score), row in rows.items() if score == "faithfulness_gap" and row["mean"] is not None}
    ours = {e: row for e, row in gaps.items() if e not in controls}
    if not ours:
        return []
    best = max(ours, key=lambda name: ours[name]["mean"])
    text = f"The maps of {best} are the most faithful: gap {_value(ours[best])}"
    others = {e: row for e, row in gaps.items() if e in controls}
    if not others:
        return [Finding("plain", "faithfulness", f"{text}. No control was audited beside it.")]
    text += ", against " + " and ".join(f"{row['mean']:.3f} ({name})" for name, row in others.items())
    low = ours[best]["low"]
    strongest = max(row["mean"] for row in others.values())
    if low is not None and low > strongest:
        return [Finding("good", "faithfulness", f"{text}. Its whole interval is above the controls.")]
    return [
        Finding("bad", "faithfulness", f"{text}. That is not clearly above the controls: do not read its maps as reasons.")
    ]


def _leakage(summary: Mapping[str, Any], part: Mapping[str, Any], rows: _Rows, main: str) -> list[Finding]:
    leakage, unsupported = (rows.get((main, name)) for name in ("off_target_leakage", "unsupported_leakage"))
    if leakage is None or leakage["mean"] is None:
        return []
    text = f"{leakage['mean']:.0%} of the credit of {main} lies outside the target"
    if unsupported is not None and unsupported["mean"] is not None:
        text += (
            f"; {unsupported['mean']:.0%} lies where filling pixels does not change the score, the rest is context that "
            "the model uses"
        )
        if unsupported["mean"] > leakage["mean"] / 2:
            return [Finding("bad", "leakage", f"{text}. Most of what leaks is unsupported.")]
    return [Finding("plain", "leakage", f"{text}.")]


def _robustness(summary: Mapping[str, Any], part: Mapping[str, Any], rows: _Rows, main: str) -> list[Finding]:
    stability, kept = (rows.get((main, name)) for name in ("stability", "stability_retention"))
    if stability is None or stability["mean"] is None:
        return []
    text = f"Under changes that keep the prediction, the maps of {main} stay alike: rank correlation {_value(stability)}"
    if kept is not None and kept["mean"] is not None:
        text += f", measured on {kept['mean']:.0%} of the changed images, whose prediction was kept"
    if stability["mean"] < 0.5:
        return [Finding("bad", "robustness", text.replace("stay alike", "do not stay alike") + ".")]
    return [Finding("plain", "robustness", f"{text}.")]


def _cue(summary: Mapping[str, Any], part: Mapping[str, Any], rows: _Rows, main: str) -> list[Finding]:
    effect = rows.get((main, "cue_effect"))
    if effect is None or effect["mean"] is None:
        return []
    text = f"Without the planted cue the score falls by {effect['mean']:.0%}"
    if effect["mean"] > 0.3:
        return [Finding("bad", "planted cue", f"{text}: the model leans on it.")]
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
    many = max(reasons.values()) > _MANY_UNSCORED * targets
    text = f"Of {targets} targets some miss a score of {main}: {told}."
    return [
        Finding("bad" if many else "plain", "coverage", text + (" The means speak for the others only." if many else ""))
    ]


def _value(row: Mapping[str, Any]) -> str:
    if row["low"] is None:
        return f"{row['mean']:.3f}"
    return f"{row['mean']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"
