"""What a trial is made of, as data (torch-free): one file per noun, and others import every name from here."""

from trainables.config.data import MOST_PADDING, UNBALANCED, Augment, ColorJitter, Columns, DataConfig, Validation
from trainables.config.frozen import Frozen, refuse_flags
from trainables.config.image_size import height_and_width, image_size_of
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
from trainables.config.model import CAPTURED, Architecture, ModelConfig
from trainables.config.packages import coder_packages, data_packages, stage_packages, trial_packages
from trainables.config.plugins import CODERS, DATASETS, IMPORTANCE, MODELS, OBSERVERS, QUANTIZERS, SPARSITY, STAGES
from trainables.config.quant import ACTIVATION_WIDTHS, ALIASES, FLOAT_BITS, GROUPS, LayerGroup, QuantScheme
from trainables.config.quantizing import AutoBits, Freezing, PostTrainingQuant, QuantAwareTrain, Quantize, Sensitivity
from trainables.config.schedule import Distillation, Schedule
from trainables.config.sealed import sealed, sealed_mapping, unsealed
from trainables.config.stage import StageConfig, stage_of_kind
from trainables.config.stages import Baseline, BaselineImport, BaselineTrain, BaselineUntrained, ChannelPrune, Sparsify
from trainables.config.trial import MeasureConfig, PackConfig, TrialConfig
from trainables.config.wording import in_words
from trainables.config.written import POINTS, SHARE, SIZE, UNIT, parsed
