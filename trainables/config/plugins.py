"""The registries: what can be named in a spec, and where it lives (torch-free).

A new entry is one line here and one file beside its fellows; a package of one's own calls `register`.
"""

from typing import Any

from trainables.registry import Registry

MODELS: Registry[Any] = Registry(
    "model",
    {
        "mobilenet_v2": "trainables.models.mobilenet_v2:MobileNetV2",
        "vgg16": "trainables.models.vgg:VGG16",
    },
)
DATASETS: Registry[Any] = Registry(
    "data set",
    {
        "digits": "trainables.data:load_digits",
        "cifar10": "trainables.data:load_cifar10",
        "cifar100": "trainables.data:load_cifar100",
        "fashion_mnist": "trainables.data:load_fashion_mnist",
    },
)
IMPORTANCE: Registry[Any] = Registry(
    "importance criterion",
    {
        "l1": "trainables.prune.importance:l1",
        "l2": "trainables.prune.importance:l2",
        "bn_taylor": "trainables.prune.importance:bn_taylor",
        "random": "trainables.prune.importance:random",
    },
)
SPARSITY: Registry[Any] = Registry(
    "sparsity criterion",
    {
        "magnitude": "trainables.prune.sparsity:magnitude",
        "lamp": "trainables.prune.sparsity:lamp",
    },
)
QUANTIZERS: Registry[Any] = Registry(
    "quantizer",
    {
        "lsq": "trainables.quant.lsq:LsqQuantizer",
        "ste": "trainables.quant.ste:StraightThroughQuantizer",
    },
)
OBSERVERS: Registry[Any] = Registry(
    "observer",
    {
        "minmax": "trainables.quant.observers:minmax",
        "percentile": "trainables.quant.observers:percentile",
        "mse": "trainables.quant.observers:mse",
    },
)
CODERS: Registry[Any] = Registry(
    "coder",
    {
        "bits": "trainables.export.plain:BITS",
        "histogram": "trainables.export.entropy:HISTOGRAM",
        "laplace": "trainables.export.entropy:LAPLACE",
        "gaussian": "trainables.export.entropy:GAUSSIAN",
        "zstd": "trainables.export.zstd:ZSTD",
        "float32": "trainables.export.plain:FLOAT32",
        "smooth": "trainables.export.smooth:SMOOTH",
    },
)
