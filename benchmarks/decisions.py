"""Counts how often decisions are wrong: intervals, verdicts, alarms and choices of public functions, on simulated scores.

    python benchmarks/decisions.py > tables.md     (about four minutes on one core)
    python benchmarks/decisions.py --quick

Each table states its bound. The exit status is 1 if a figure breaks it; `--quick` makes few trials, and allows three
standard errors for that. No model is involved: the truth is known.
"""

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from math import sqrt

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from segaudit.statistics import DriftAlarm, level_interval, resplit, verdict

Vector = NDArray[np.float64]
Random = np.random.Generator

COUNTS = (5, 6, 12, 24)
AUDITS = 50


@dataclass
class Table:
    """Prints a Markdown table, and counts the figures that break a bound."""

    title: str
    heads: Sequence[str]
    trials: int
    quick: bool = False
    broken: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        print(f"\n### {self.title}\n\n| {' | '.join(self.heads)} |\n{'| --- ' * len(self.heads)}|", flush=True)

    def row(self, *cells: object) -> None:
        print(f"| {' | '.join(str(cell) for cell in cells)} |", flush=True)

    def at_least(self, share: float, bound: float) -> str:
        """Format a share, in bold where it is below its bound."""
        return self._marked(share, share < bound - self._slack(bound))

    def at_most(self, share: float, bound: float) -> str:
        """Format a share, in bold where it is above its bound."""
        return self._marked(share, share > bound + self._slack(bound))

    def _slack(self, bound: float) -> float:
        return 3 * sqrt(bound * (1 - bound) / self.trials) if self.quick else 0.0

    def _marked(self, share: float, broken: bool) -> str:
        if broken:
            self.broken.append(f"{self.title}: {share:.3f}")
        return f"**{share:.3f}**" if broken else f"{share:.3f}"


# levels


def _clustered(rng: Random, n: int) -> tuple[Vector, Vector]:
    """Units with one to eight targets each that go together; larger units do not have other scores."""
    units = np.repeat(np.arange(n), rng.integers(1, 9, n))
    level = rng.beta(1, 3, n)
    return np.clip(level[units] + rng.uniform(-1, 1, len(units)) * np.minimum(level, 1 - level)[units], 0, 1), units


def _alone(draw: Callable[[Random, int], Vector]) -> Callable[[Random, int], tuple[Vector, Vector]]:
    return lambda rng, n: (draw(rng, n), np.arange(n))


def _outliers(share: float) -> Callable[[Random, int], Vector]:
    return lambda rng, n: np.where(rng.random(n) < share, rng.uniform(0.7, 1, n), rng.uniform(0.02, 0.08, n))


#: By shape, how scores and their units are drawn, and the true mean.
SHAPES: dict[str, tuple[Callable[[Random, int], tuple[Vector, Vector]], float]] = {
    "normal": (_alone(lambda rng, n: stats.truncnorm.rvs(-3, 3, 0.5, 0.15, size=n, random_state=rng)), 0.5),
    "skewed": (_alone(lambda rng, n: rng.beta(0.5, 4, n)), 0.5 / 4.5),
    "85 % zeros": (_alone(lambda rng, n: np.where(rng.random(n) < 0.15, rng.uniform(0, 0.6, n), 0.0)), 0.045),
    "binary, 0.1": (_alone(lambda rng, n: (rng.random(n) < 0.1).astype(float)), 0.1),
    "binary, 0.9": (_alone(lambda rng, n: (rng.random(n) < 0.9).astype(float)), 0.9),
    "3 % outliers": (_alone(_outliers(0.03)), 0.03 * 0.85 + 0.97 * 0.05),
    "10 % outliers": (_alone(_outliers(0.1)), 0.1 * 0.85 + 0.9 * 0.05),
    "clustered": (_clustered, 0.25),
}


def coverage(trials: int, seed: int, quick: bool) -> list[str]:
    """Count how often 95 % intervals of levels hold the true mean, and measure their width; Student's t beside them."""
    heads = ["shape", *(f"n = {n}" for n in COUNTS), *(f"width, n = {n}" for n in COUNTS), *(f"t, n = {n}" for n in COUNTS)]
    table = Table("Coverage of 95 % intervals of levels (at least 0.93)", heads, trials, quick)
    for place, (shape, (draw, truth)) in enumerate(SHAPES.items()):
        held, width, by_t = [], [], []
        for n in COUNTS:
            rng = np.random.default_rng([seed, place, n])
            ends, hits = np.empty((trials, 2)), 0
            for trial in range(trials):
                values, units = draw(rng, n)
                ends[trial] = level_interval(values, units)
                means = np.bincount(units, values) / np.bincount(units)
                half = stats.t.ppf(0.975, n - 1) * means.std(ddof=1) / sqrt(n)
                hits += abs(means.mean() - truth) <= half
            held.append(float(((ends[:, 0] <= truth) & (truth <= ends[:, 1])).mean()))
            width.append(float((ends[:, 1] - ends[:, 0]).mean()))
            by_t.append(hits / trials)
        table.row(shape, *(table.at_least(h, 0.93) for h in held), *(f"{w:.2f}" for w in width), *(f"{t:.2f}" for t in by_t))
    return table.broken


# verdicts


def _exchangeable(draw: Callable[[Random, int], Vector]) -> Callable[[Random, int], Vector]:
    """Main and control get their scores in the same way, on images that differ."""

    def differences(rng: Random, n: int) -> Vector:
        image = rng.uniform(0, 0.3, n)
        one, other = (np.clip(image + draw(rng, n), 0, 1) for _ in range(2))
        return np.asarray(one - other)

    return differences


def _rare(size: float) -> Callable[[Random, int], Vector]:
    """The mean difference is 0: most units differ by a little, a tenth by much in the other direction."""
    return lambda rng, n: np.where(rng.random(n) < 0.1, size, -size / 9) + 0.02 * rng.normal(size=n)


#: Differences of which the mean is 0, by what they are like, and the bound on false "above" where there is one.
NULLS: dict[str, tuple[Callable[[Random, int], Vector], float | None]] = {
    "exchangeable, normal": (_exchangeable(lambda rng, n: rng.normal(0.3, 0.15, n)), 0.06),
    "exchangeable, skewed": (_exchangeable(lambda rng, n: rng.beta(0.5, 4, n)), 0.06),
    "exchangeable, 85 % zeros": (_exchangeable(lambda rng, n: np.where(rng.random(n) < 0.15, rng.random(n), 0.0)), 0.06),
    "exchangeable, binary": (_exchangeable(lambda rng, n: (rng.random(n) < 0.3).astype(float)), 0.06),
    "exchangeable, 10 % outliers": (_exchangeable(_outliers(0.1)), 0.06),
    "one spread twice the other": (lambda rng, n: rng.normal(0, 0.2, n) - rng.normal(0, 0.1, n), None),
    "a tenth of the images lose much": (_rare(-0.5), None),
    "a tenth of the images win much": (_rare(0.5), None),
}


def verdicts(trials: int, seed: int, quick: bool) -> list[str]:
    """Count how often the verdict is above or below where there is no difference, and how often it finds one."""
    counts = (6, 12) if quick else (6, 12, 24)
    heads = ["differences", *(f"above, n = {n}" for n in counts), *(f"below, n = {n}" for n in counts)]
    table = Table(
        "False verdicts where the mean difference is 0 (above: at most 0.06 if exchangeable)", heads, trials, quick
    )
    for place, (name, (draw, bound)) in enumerate(NULLS.items()):
        found = {}
        for n in counts:
            rng = np.random.default_rng([seed, 100 + place, n])
            outcomes = [verdict({"control": draw(rng, n)})[0] for _ in range(trials)]
            found |= {(outcome, n): outcomes.count(outcome) / trials for outcome in ("above", "below")}
        above = [found["above", n] for n in counts]
        shown = [f"{s:.3f}" if bound is None else table.at_most(s, bound) for s in above]
        table.row(name, *shown, *(f"{found['below', n]:.3f}" for n in counts))
    power = Table("Power: above two controls by a mean of 0.1", ["spread", *(f"n = {n}" for n in counts)], trials, quick)
    for spread in (0.05, 0.1, 0.2):
        shares = []
        for n in counts:
            rng = np.random.default_rng([seed, 200, n, int(100 * spread)])
            won = [verdict({c: rng.normal(0.1, spread, n) for c in ("random", "target_mask")})[0] for _ in range(trials)]
            shares.append(won.count("above") / trials)
        power.row(spread, *(f"{share:.3f}" for share in shares))
    return table.broken


# alarms


@dataclass(frozen=True)
class Noise:
    """Says how the mean of a panel moves without a change: noise common to all targets, and each target's own."""

    common: float
    target: float
    targets: int
    kind: str = "normal"

    def means(self, rng: Random, audits: int) -> Vector:
        def draw(*size: int) -> Vector:
            if self.kind == "heavy":
                return np.asarray(rng.standard_t(4, size) / sqrt(2))
            return np.asarray(rng.uniform(-sqrt(3), sqrt(3), size) if self.kind == "uniform" else rng.normal(size=size))

        own = draw(audits, self.targets).mean(axis=1)
        return 0.4 + self.common * draw(audits) + self.target * own

    def __str__(self) -> str:
        kind = "" if self.kind == "normal" else f", {self.kind}"
        return f"{self.common:g}, {self.target:g}, {self.targets} targets{kind}"


NOISES = (
    Noise(0.03, 0.1, 6),
    Noise(0.03, 0.1, 12),
    Noise(0.03, 0.1, 24),
    Noise(0.03, 0.1, 12, "heavy"),
    Noise(0.03, 0.1, 12, "uniform"),
    Noise(0.03, 0.02, 12),
    Noise(0.01, 0.1, 6),
    Noise(0.01, 0.05, 12),
    Noise(0.0, 0.0, 12),
    Noise(0.03, 0.1, 3),
)


def first_alarm(series: Sequence[Vector]) -> float:
    """Return the audit of the first alarm of scores that are watched together; infinity without one."""
    firsts = [np.inf]
    for means in series:
        alarm = DriftAlarm(scores=len(series))
        firsts.append(next((place for place, mean in enumerate(means) if alarm.update(mean)), np.inf))
    return float(min(firsts))


def alarms(trials: int, seed: int, quick: bool) -> list[str]:
    """Count how often series in which nothing changes raise an alarm, and measure how soon changes do."""
    together = (1, 2, 4)
    heads = ["common noise, target noise", *(f"{k} score{'s' * (k > 1)}" for k in together)]
    false = Table(
        f"False alarms in {AUDITS} audits, all scores together (at most 0.05 with 6 targets and more)", heads, trials, quick
    )
    for place, noise in enumerate(NOISES[:3] if quick else NOISES):
        rng = np.random.default_rng([seed, 300, place])
        shares = [
            float(np.isfinite([first_alarm([noise.means(rng, AUDITS) for _ in range(k)]) for _ in range(trials)]).mean())
            for k in together
        ]
        false.row(noise, *(false.at_most(s, 0.05) if noise.targets >= 6 else f"{s:.3f}" for s in shares))

    epochs = np.arange(AUDITS)
    changes = {
        "step of 0.1 after 10 audits": (10, 0.1 * (epochs >= 10)),
        "step of 0.1 after 30 audits": (30, 0.1 * (epochs >= 30)),
        "step of 0.2 after 10 audits": (10, 0.2 * (epochs >= 10)),
        "ramp of 0.01 an audit after 10": (10, 0.01 * np.maximum(0, epochs - 9)),
        "ramp of 0.003 an audit from the start": (0, 0.003 * epochs),
        "score learnt, falls by 0.3": (0, 0.3 * np.exp(-epochs / 8)),
        "score learnt, rises by 0.3": (0, -0.3 * np.exp(-epochs / 8)),
    }
    heads = [
        "change (0.03 and 0.1, 12 targets)",
        *(f"within 15, {k} score{'s' * (k > 1)}" for k in together),
        "ever, 1 score",
        "median delay",
    ]
    found = Table(
        "Alarms after a change of one of the watched scores (a step of 0.1 is found within 15 in at least 0.9)",
        heads,
        trials,
        quick,
    )
    noise = Noise(0.03, 0.1, 12)
    for place, (name, (start, change)) in enumerate(changes.items()):
        rng = np.random.default_rng([seed, 400, place])
        within, ever, delay = [], 0.0, np.nan
        for k in together:
            firsts = []
            for _ in range(trials):
                alarm, means = DriftAlarm(scores=k), noise.means(rng, AUDITS) + change
                on = [place for place, mean in enumerate(means) if alarm.update(mean)]
                if not on or on[0] >= start:  # a false alarm before the change is in the other table
                    firsts.append(on[0] - start if on else np.inf)
            within.append(float((np.array(firsts) < 15).mean()))
            if k == 1:
                ever, delay = float(np.isfinite(firsts).mean()), float(np.median(firsts))
        bound = 0.9 if name.startswith("step of 0.1") else 0.0
        shown = [found.at_least(within[0], bound), *(found.at_least(w, bound) for w in within[1:])]
        found.row(name, *shown, f"{ever:.3f}", "-" if not np.isfinite(delay) else f"{delay + 1:.0f}")
    return false.broken + found.broken


# choices


def choices(trials: int, seed: int, quick: bool) -> list[str]:
    """By how much the reported score of the best candidate is better (optimism) or worse than its true one."""
    heads = ["candidates", "units", "spread of the candidates", "mean of the best", "resplit"]
    title = "Reported minus true score of the best, lower is better (resplit: -0.01 to 0.02)"
    table = Table(title, heads, trials, quick)
    for candidates in (20, 50):
        for units in (12,) if quick else (6, 12, 24):
            for spread in (0.0, 0.02, 0.05):
                rng = np.random.default_rng([seed, 500, candidates, units, int(100 * spread)])
                naive, found = np.empty(trials), np.empty(trials)
                for trial in range(trials):
                    truth = 0.4 + spread * rng.normal(size=candidates)
                    images = 0.1 * rng.normal(size=units)
                    scores = truth[:, None] + images + 0.1 * rng.normal(size=(candidates, units))
                    chosen, expected = resplit(scores)
                    naive[trial] = scores[chosen].mean() - truth[chosen]
                    found[trial] = expected - truth[chosen]
                error = found.mean()
                slack = 3 * float(found.std()) / sqrt(trials)
                if not -0.01 - slack <= error <= 0.02 + slack:
                    table.broken.append(f"{title}: {error:.3f}")
                table.row(candidates, units, spread, f"{naive.mean():+.3f}", f"{error:+.3f}")
    return table.broken


def studies(quick: bool) -> Iterator[tuple[Callable[[int, int, bool], list[str]], int]]:
    """Yield each study and its number of trials."""
    yield coverage, 100 if quick else 2000
    yield verdicts, 100 if quick else 1000
    yield alarms, 100 if quick else 1000
    yield choices, 20 if quick else 400


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables; return 1 if a figure breaks its bound."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args(arguments)
    broken = [one for study, trials in studies(chosen.quick) for one in study(trials, chosen.seed, chosen.quick)]
    for one in broken:
        print(f"broken: {one}", file=sys.stderr)
    return int(bool(broken))


if __name__ == "__main__":
    sys.exit(main())
