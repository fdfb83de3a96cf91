"""Tables for the drift benchmark: NumPy alone, so that peers in other environments make the same ones."""

# ruff: noqa: ARG001 - every change takes the same

import math
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import numpy as np

Frame = dict[str, Any]
LEVELS = (2, 5, 10, 50, 500)
BASE = 100_000
SHAPES: Mapping[str, Callable[[Any, int], Any]] = {
    "normal": lambda r, n: r.normal(size=n),
    "lognormal": lambda r, n: r.lognormal(size=n),
    "uniform": lambda r, n: r.random(n),
    "student3": lambda r, n: r.standard_t(3, size=n),
    "poisson": lambda r, n: r.poisson(3, n).astype(float),
    "exponential": lambda r, n: r.exponential(size=n),
    "half_zero": lambda r, n: np.where(r.random(n) < 0.5, 0.0, r.gamma(2, size=n)),
    "two_peaks": lambda r, n: np.where(r.random(n) < 0.5, r.normal(-2, 1, n), r.normal(2, 1, n)),
}
HEAVY: Mapping[str, Callable[[Any, int], Any]] = {
    "cauchy": lambda r, n: r.standard_cauchy(n),
    "pareto": lambda r, n: r.pareto(0.8, n),
    "lognormal3": lambda r, n: r.lognormal(0, 3, n),
    "rounded": lambda r, n: np.round(r.normal(size=n), 1),
    "nine_tenths_zero": lambda r, n: np.where(r.random(n) < 0.9, 0.0, r.pareto(1, n)),
    "geometric": lambda r, n: r.geometric(0.3, n).astype(float),
    "few_values": lambda r, n: r.choice([0.0, 1.0, 5.0], n, p=[0.7, 0.2, 0.1]),
    "student2": lambda r, n: r.standard_t(2, size=n),
}


def frame(r: Any, n: int, table: str = "mixed", session: int = 0) -> Frame:
    """15 columns of numbers of 8 shapes and 5 of categories. With `session`, rows come in groups of that size: in a
    column of numbers a group explains 0 to 40 % of the variance, in one of categories 20 % of the rows repeat the
    group's level. `missing` is `mixed` with 10 % missing in each column of numbers."""
    shapes = list((HEAVY if table == "heavy" else SHAPES).values())
    made: Frame = {}
    groups = np.arange(n) // session if session else None
    for place in range(15):
        shape = shapes[place % len(shapes)]
        if groups is None:
            values = shape(r, n)
        else:
            share = 0.1 * (place % 5)
            latent = math.sqrt(share) * r.normal(size=groups[-1] + 1)[groups] + math.sqrt(1 - share) * r.normal(size=n)
            base = _sorted_base(shape, place)
            values = base[np.clip((_normal_cdf(latent) * BASE).astype(int), 0, BASE - 1)]
        made[f"x{place}"] = np.where(r.random(n) < 0.1, np.nan, values) if table == "missing" else values
    for levels in LEVELS:
        chosen = r.integers(0, levels, n)
        if groups is not None:
            own = r.integers(0, levels, groups[-1] + 1)[groups]
            chosen = np.where(r.random(n) < 0.2, own, chosen)
        made[f"c{levels}"] = _names(levels)[chosen]
    return made


@cache
def _sorted_base(shape: Callable[[Any, int], Any], seed: int) -> Any:
    return np.sort(shape(np.random.default_rng(seed), BASE))


def correlated(r: Any, n: int, rho: float) -> Frame:
    """Seven normal columns, each pair with the same correlation."""
    common = r.normal(size=n)
    return {f"x{i}": math.sqrt(rho) * common + math.sqrt(1 - rho) * r.normal(size=n) for i in range(7)}


def one_pair(r: Any, n: int, rho: float) -> Frame:
    """Seven normal columns with correlation 0.5, but `rho` between the first two."""
    matrix = np.full((7, 7), 0.5)
    np.fill_diagonal(matrix, 1.0)
    matrix[0, 1] = matrix[1, 0] = rho
    values = r.multivariate_normal(np.zeros(7), matrix, n)
    return {f"x{i}": values[:, i] for i in range(7)}


def _names(levels: int) -> Any:
    return np.array([f"level_{place}" for place in range(levels)], dtype=object)


def _normal_cdf(z: Any) -> Any:
    return np.interp(z, *_normal_table())


@cache
def _normal_table() -> tuple[Any, Any]:
    grid = np.linspace(-6, 6, 4001)
    return grid, np.array([0.5 * math.erfc(-x / math.sqrt(2)) for x in grid])


def _moved(by: float, column: str = "x0") -> Any:
    def change(r: Any, a: Frame, b: Frame, n: int) -> str:
        b[column] = b[column] + by
        return column

    return change


def _scaled(by: float) -> Any:
    def change(r: Any, a: Frame, b: Frame, n: int) -> str:
        b["x0"] = b["x0"] * by
        return "x0"

    return change


def _outliers(column: str) -> Any:
    def change(r: Any, a: Frame, b: Frame, n: int) -> str:
        b[column] = np.where(r.random(n) < 0.01, b[column] * 10, b[column])
        return column

    return change


def _missing(before: float, after: float) -> Any:
    def change(r: Any, a: Frame, b: Frame, n: int) -> str:
        for values, share in ((a, before), (b, after)):
            values["x0"] = np.where(r.random(n) < share, np.nan, values["x0"])
        return "x0"

    return change


def _mix(levels: int) -> Any:
    def change(r: Any, a: Frame, b: Frame, n: int) -> str:
        p = np.full(levels, 1 / levels)
        p[:2] += (0.05, -0.05)
        b[f"c{levels}"] = _names(levels)[r.choice(levels, n, p=p)]
        return f"c{levels}"

    return change


def _new(levels: int) -> Any:
    def change(r: Any, a: Frame, b: Frame, n: int) -> str:
        values = b[f"c{levels}"].copy()
        values[r.random(n) < 0.01] = "new"
        b[f"c{levels}"] = values
        return f"c{levels}"

    return change


def _empty_category(r: Any, a: Frame, b: Frame, n: int) -> str:
    values = b["c5"].copy()
    values[r.random(n) < 0.02] = None
    b["c5"] = values
    return "c5"


LOGNORMAL_SD = math.sqrt((math.e - 1) * math.e)
CHANGES: Mapping[str, Callable[[Any, Frame, Frame, int], str]] = {
    "mean 0.02 sd": _moved(0.02),
    "mean 0.05 sd": _moved(0.05),
    "mean 0.1 sd": _moved(0.1),
    "mean 0.2 sd": _moved(0.2),
    "mean 0.5 sd": _moved(0.5),
    "variance × 1.2": _scaled(math.sqrt(1.2)),
    "log-normal, mean 0.1 sd": _moved(0.1 * LOGNORMAL_SD, "x1"),
    "1 % of normal values × 10": _outliers("x0"),
    "1 % of log-normal values × 10": _outliers("x1"),
    "missing 0 → 2 %": _missing(0.0, 0.02),
    "missing 10 → 12 %": _missing(0.1, 0.12),
    "missing 10 → 15 %": _missing(0.1, 0.15),
    "2 levels, mix by 5 points": _mix(2),
    "5 levels, mix by 5 points": _mix(5),
    "new level 1 % (50 levels)": _new(50),
    "new level 1 % (500 levels)": _new(500),
    "category missing 2 %": _empty_category,
}


def pair(case: Mapping[str, Any], trial: int) -> tuple[Frame, Frame, str]:
    """Reference, current and the column that changed ("": none) of one trial of a case."""
    n, change = case["n"], case.get("change", "")
    r = np.random.default_rng([trial, n, sum(map(ord, case.get("table", "mixed") + change))])
    if case.get("table") in ("correlated", "one_pair"):
        make = correlated if case["table"] == "correlated" else one_pair
        return make(r, n, 0.5), make(r, n, float(change or 0.5)), "dependence" if change else ""
    a, b = (frame(r, n, case.get("table", "mixed"), case.get("session", 0)) for _ in range(2))
    return a, b, CHANGES[change](r, a, b, n) if change else ""
