"""Plug-ins: every registry, and the installed packages whose names a spec uses."""

from cluster.credentials import strings_in
from search_spaces.samplers import SAMPLERS
from trainables.config import CODERS, DATASETS, IMPORTANCE, MODELS, OBSERVERS, QUANTIZERS, SPARSITY
from trainables.registry import Registry

REGISTRIES: tuple[Registry[object], ...] = (
    MODELS,
    DATASETS,
    IMPORTANCE,
    SPARSITY,
    QUANTIZERS,
    OBSERVERS,
    CODERS,
    SAMPLERS,
)


def packages_of(content: object) -> list[str]:
    """The packages that bring a plug-in that is named somewhere in a JSON value, sorted."""
    words = {text for _, text in strings_in(content)}
    points = [point for registry in REGISTRIES for point in registry.installed().values()]
    return sorted({point.dist.name for point in points if point.name in words and point.dist})
