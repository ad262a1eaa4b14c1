"""How a measured column is called and written in text, and which way of it is better."""

from tune_app.spec.experiment import Direction, ExperimentSpec
from tune_app.terminal.quantities import show_ratio, show_share, show_size

SHARES = {
    "accuracy",
    "accuracy_drop",
    "accuracy_fine_tuned",
    "accuracy_pruned",
    "accuracy_sparsified",
    "accuracy_trained",
    "prune_frac",
    "prune_frac_achieved",
    "prune_frac_requested",
    "sparsity",
    "sparsity_achieved",
    "sparsity_reached",
    "sparsity_requested",
    "test_accuracy",
    "test_accuracy_mean",
    "test_accuracy_sd",
}
TITLES = {
    "accuracy": "accuracy (validation split)",
    "accuracy_drop": "accuracy below the baseline's",
    "accuracy_pruned": "accuracy after pruning, before fine-tuning",
    "accuracy_fine_tuned": "accuracy after pruning and fine-tuning",
    "accuracy_sparsified": "accuracy after sparsifying",
    "accuracy_trained": "accuracy after quantization",
    "size_bytes": "size of the packed file",
    "compression_ratio": "compression ratio",
    "parameters": "parameters",
    "macs": "multiply-accumulates",
    "bops": "bit operations",
    "activation_bytes": "activations of an image",
    "peak_activation_bytes": "peak activations of an image",
    "prune_frac_requested": "share of channels to remove",
    "prune_frac_achieved": "share of channels removed",
    "sparsity_requested": "sparsity requested of the stage",
    "sparsity_reached": "sparsity reached by the stage",
    "sparsity_achieved": "sparsity",
}
SHORT = {
    "accuracy_drop": "drop",
    "accuracy_pruned": "pruned accuracy",
    "accuracy_fine_tuned": "fine-tuned accuracy",
    "accuracy_sparsified": "sparsified accuracy",
    "accuracy_trained": "quantized accuracy",
    "prune_frac_requested": "pruning requested",
    "prune_frac_achieved": "pruned",
    "sparsity_requested": "sparsity requested",
    "sparsity_reached": "sparsity reached",
    "stopped_early": "stopped early",
    "size_bytes": "size",
    "compression_ratio": "ratio",
    "macs": "MACs",
    "bops": "BOPs",
    "activation_bytes": "activations",
    "peak_activation_bytes": "peak activations",
    "sparsity_achieved": "sparsity",
}


def show(name: str, value: float) -> str:
    """A value as people write it: `97.77 %`, `296 KB`, `10.3x`, `1,644,048`."""
    if name in SHARES:
        return show_share(value)
    if name.endswith("_bytes"):
        return show_size(value)
    if name == "compression_ratio":
        return show_ratio(value)
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.4g}"


def short(name: str) -> str:
    """A name that fits above a column."""
    return SHORT.get(name, name)


def direction(name: str, spec: ExperimentSpec) -> Direction:
    """Which way is better."""
    upward = name in {"compression_ratio", "sparsity_achieved", "sparsity_reached"} or _is_accuracy(name)
    return spec.objectives.get(name, "maximize" if upward else "minimize")


def _is_accuracy(name: str) -> bool:
    return "accuracy" in name and name != "accuracy_drop"
