"""The registries: what can be named in a spec, and where it lives (torch-free).

A new entry is one line here and one file beside its fellows; another package names its own as entry points in the
group of the registry.
"""

from typing import Any

from trainables.registry import Registry

TORCHVISION = (
    *("caltech101", "caltech256", "cifar10", "cifar100", "country211", "dtd", "emnist", "eurosat", "fashion_mnist"),
    *("fgvc_aircraft", "flowers102", "food101", "gtsrb", "imagenette", "kmnist", "mnist", "oxford_iiit_pet"),
    *("rendered_sst2", "semeion", "stanford_cars", "stl10", "svhn", "usps"),
)
"""Data sets that torchvision reads; `trainables.data.loaders.torchvision_sets` says how."""
STAGES: Registry[Any] = Registry("kind of stage", {}, group="tune_app.stages")
"""Configurations of stages by kind; ours register themselves (`trainables.config.stages`, `.quantizing`)."""
MODELS: Registry[Any] = Registry(
    "model",
    {"mobilenet_v2": "trainables.models.mobilenet_v2:MobileNetV2", "vgg16": "trainables.models.vgg:VGG16"},
    group="tune_app.models",
    reserved="captured",
)
DATASETS: Registry[Any] = Registry(
    "data set",
    {
        "digits": "trainables.data.sources:load_digits",
        "image_folder": "trainables.data.loaders.image_folder:load_image_folder",
        "parquet": "trainables.data.loaders.parquet_images:load_parquet",
        "arrays": "trainables.data.loaders.array_files:load_arrays",
        **dict.fromkeys(TORCHVISION, "trainables.data.loaders.torchvision_sets:load_torchvision"),
    },
    group="tune_app.datasets",
)
IMPORTANCE: Registry[Any] = Registry(
    "importance criterion",
    {
        "l1": "trainables.prune.importance:l1",
        "l2": "trainables.prune.importance:l2",
        "bn_taylor": "trainables.prune.importance:bn_taylor",
        "random": "trainables.prune.importance:random",
    },
    group="tune_app.importance",
)
SPARSITY: Registry[Any] = Registry(
    "sparsity criterion",
    {"magnitude": "trainables.prune.sparsity:magnitude", "lamp": "trainables.prune.sparsity:lamp"},
    group="tune_app.sparsity",
)
QUANTIZERS: Registry[Any] = Registry(
    "quantizer",
    {"lsq": "trainables.quant.lsq:LsqQuantizer", "ste": "trainables.quant.ste:StraightThroughQuantizer"},
    group="tune_app.quantizers",
)
OBSERVERS: Registry[Any] = Registry(
    "observer",
    {
        "minmax": "trainables.quant.observers:minmax",
        "percentile": "trainables.quant.observers:percentile",
        "mse": "trainables.quant.observers:mse",
    },
    group="tune_app.observers",
)
CODERS: Registry[Any] = Registry(
    "coder",
    {
        "bits": "trainables.export.coders.plain:BITS",
        "histogram": "trainables.export.coders.entropy:HISTOGRAM",
        "laplace": "trainables.export.coders.entropy:LAPLACE",
        "gaussian": "trainables.export.coders.entropy:GAUSSIAN",
        "zstd": "trainables.export.coders.zstd:ZSTD",
        "float32": "trainables.export.coders.plain:FLOAT32",
        "smooth": "trainables.export.coders.smooth:SMOOTH",
    },
    group="tune_app.coders",
)
