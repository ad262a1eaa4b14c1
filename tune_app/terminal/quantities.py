"""Quantities as people read them: sizes (296 KB), ratios (10x), shares (97.77 %), durations (3.8 min)."""


def show_size(size_bytes: float) -> str:
    """Writes bytes with three digits and a power of ten: `296 KB`, `1.20 MB`; below 1,000 all of them: `999 B`."""
    value, unit = float(size_bytes), "B"
    for larger in ("KB", "MB", "GB", "TB"):
        if abs(value) < 999.5:
            break
        value, unit = value / 1_000, larger
    digits = 0 if unit == "B" or abs(value) >= 99.95 else 1 if abs(value) >= 9.995 else 2
    return f"{value:.{digits}f} {unit}"


def show_number(value: float) -> str:
    """Writes a number with six digits at least, and with all of those before the point: `852,649`, `0.123457`."""
    return f"{value:,.0f}" if abs(value) >= 99_999.5 else f"{value:,.6g}"


def show_ratio(ratio: float) -> str:
    """Writes a ratio with three digits: `7.31x`, `10.3x`."""
    return f"{ratio:.2f}x" if ratio < 9.995 else f"{ratio:.1f}x"


def show_share(share: float, *, digits: int = 2) -> str:
    """Writes a share, 0 to 1, in percent: `97.77 %`."""
    return f"{100 * share:.{digits}f} %"


def show_spread(share: float, sd: float) -> str:
    """Writes the mean of a share with its standard deviation, in percent: `91.18 ± 0.30 %`."""
    return f"{100 * share:.2f} ± {show_share(sd)}"


def show_interval(low: float, high: float) -> str:
    """Writes the ends of an interval of shares, which stand behind a share, in percent: `98.68 to 100.00`."""
    return f"{100 * low:.2f} to {100 * high:.2f}"


def show_points(difference: float, *, signed: bool = True, digits: int = 2) -> str:
    """Writes a difference of two shares in percentage points: `-0.87 pp`, or not `signed`, as a loss: `0.87 pp`."""
    points = round(100 * difference, digits) + 0.0  # no -0.00
    return f"{points:{'+' if signed else ''}.{digits}f} pp"


def show_count(number: int, noun: str) -> str:
    """Writes a count with its noun: `1 point`, `2,000 points`."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def show_done(done: int, budget: int) -> str:
    """Writes how many trials of a budget are done: `6 of 10 trials`, or `18 trials (budget 5)` once it was lowered."""
    return f"{done:,} of {budget:,} trials" if done <= budget else f"{show_count(done, 'trial')} (budget {budget:,})"


def show_duration(seconds: float) -> str:
    """Writes seconds in the largest unit that fits: `45 s`, `3.8 min`, `3.4 h`; days from two on: `2.1 d`."""
    for unit, size, least in (("d", 86_400, 2), ("h", 3_600, 1), ("min", 60, 1)):
        if seconds >= least * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"
