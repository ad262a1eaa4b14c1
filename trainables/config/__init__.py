"""What a trial is made of, as data (torch-free): one file per noun, all names from here."""

from trainables.config.data import Augment, ColorJitter, DataConfig
from trainables.config.frozen import Frozen
from trainables.config.keys import (
    data_key,
    digest,
    file_sha256,
    repeat_seed,
    stage_key,
    stage_keys,
    teacher_key,
    trial_key,
)
from trainables.config.model import Architecture, ModelConfig
from trainables.config.packages import coder_packages, data_packages, stage_packages, trial_packages
from trainables.config.plugins import CODERS, DATASETS, IMPORTANCE, MODELS, OBSERVERS, QUANTIZERS, SPARSITY
from trainables.config.quant import ALIASES, FLOAT_BITS, GROUPS, LayerGroup, QuantScheme
from trainables.config.schedule import Distillation, Schedule
from trainables.config.stages import (
    AutoBits,
    Baseline,
    BaselineImport,
    BaselineTrain,
    BaselineUntrained,
    ChannelPrune,
    Freezing,
    PostTrainingQuant,
    QuantAwareTrain,
    Quantize,
    Sensitivity,
    Sparsify,
    StageConfig,
    training_of,
)
from trainables.config.trial import MeasureConfig, PackConfig, TrialConfig

__all__ = [
    "ALIASES",
    "CODERS",
    "DATASETS",
    "FLOAT_BITS",
    "GROUPS",
    "IMPORTANCE",
    "MODELS",
    "OBSERVERS",
    "QUANTIZERS",
    "SPARSITY",
    "Architecture",
    "Augment",
    "AutoBits",
    "Baseline",
    "BaselineImport",
    "BaselineTrain",
    "BaselineUntrained",
    "ChannelPrune",
    "ColorJitter",
    "DataConfig",
    "Distillation",
    "Freezing",
    "Frozen",
    "LayerGroup",
    "MeasureConfig",
    "ModelConfig",
    "PackConfig",
    "PostTrainingQuant",
    "QuantAwareTrain",
    "QuantScheme",
    "Quantize",
    "Schedule",
    "Sensitivity",
    "Sparsify",
    "StageConfig",
    "TrialConfig",
    "coder_packages",
    "data_key",
    "data_packages",
    "digest",
    "file_sha256",
    "repeat_seed",
    "stage_key",
    "stage_keys",
    "stage_packages",
    "teacher_key",
    "training_of",
    "trial_key",
    "trial_packages",
]
