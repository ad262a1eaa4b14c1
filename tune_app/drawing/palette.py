"""The colors of all figures, by name, for light and dark pages; a figure holds names (`@ink`) until it is drawn.

The data colors are those of Okabe and Ito (2008), distinguishable with every common color blindness.
"""

from typing import Any, Literal

COLORS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442")
INK, GRAY = "#222222", "#A8A8A8"
Theme = Literal["light", "dark"]
BLUE, ORANGE, GREEN, PINK, SKY, VERMILION, YELLOW = COLORS
PALETTES: dict[Theme, dict[str, str]] = {
    "light": {
        **{"ink": "#1D2329", "muted": "#5B6670", "grid": "#E6E9EB", "surface": "#FFFFFF", "dim": "#7F8A93"},
        **{"front": BLUE, "outside": VERMILION},
        **{"c0": BLUE, "c1": ORANGE, "c2": GREEN, "c3": PINK, "c4": SKY, "c5": VERMILION, "c6": "#1D2329"},
    },
    "dark": {
        **{"ink": "#E6E9EC", "muted": "#A0ABB5", "grid": "#2E363D", "surface": "#1B2025", "dim": "#808B95"},
        **{"front": SKY, "outside": VERMILION},
        **{"c0": SKY, "c1": ORANGE, "c2": GREEN, "c3": PINK, "c4": BLUE, "c5": VERMILION, "c6": YELLOW},
    },
}
"""Both have the same names; in the dark the two blues change places, so that the first one stands out.

On white the last one is black, which their set has too: yellow cannot be seen there.
"""
CYCLE = tuple(f"@c{i}" for i in range(7))


def painted(spec: Any, theme: Theme) -> Any:
    """Returns a copy of a figure, or a part of it, with colors in the place of their names."""
    if isinstance(spec, str):
        return PALETTES[theme].get(spec[1:], spec) if spec.startswith("@") else spec
    if isinstance(spec, dict):
        return {key: painted(value, theme) for key, value in spec.items()}
    if isinstance(spec, list | tuple):
        return [painted(value, theme) for value in spec]
    return spec
