import pytest

from tests.trainables.costs.test_counts import architecture, even, network
from trainables.config import QuantScheme
from trainables.costs.activation_memory import RULES, activation_elements, activation_memory, counted
from trainables.costs.counts import count

WHOLE_NETWORKS = True


def test_rules_of_earlier_systems() -> None:
    full, pruned = architecture(), architecture(prune_frac=0.4)
    assert 256 * activation_elements(network(pruned), pruned)["relu_outputs"] == 249_047_552
    found = activation_elements(network(full), full)
    assert found["module_outputs"] == 4_783_370
    assert found["conv_outputs"] == 1_639_936
    assert activation_elements(network(full, QuantScheme()), full) == found


@pytest.mark.parametrize(("a_bits", "mebibytes"), [(8, "237.51"), (4, "118.76"), (32, "950.04")])
def test_a_batch_of_the_earlier_system(a_bits: int, mebibytes: str) -> None:
    full, pruned = architecture(), architecture(prune_frac=0.4)
    base = counted(network(full), full)
    memory = activation_memory(counted(network(pruned), pruned), base, a_bits=a_bits, batch=256)
    found = {m.name: m for m in memory}["relu_outputs"]
    assert f"{found.size_bytes / 2**20:.2f}" == mebibytes
    assert found.fp32_bytes == 256 * 4 * activation_elements(network(full), full)["relu_outputs"]
    assert found.ratio == found.fp32_bytes / found.size_bytes


def test_module_outputs_in_float32() -> None:
    full = architecture()
    base = counted(network(full), full)
    found = {m.name: m for m in activation_memory(base, base, a_bits=32)}["module_outputs"]
    assert f"{found.size_bytes / 2**20:.2f}" == "18.25"
    assert found.ratio == 1


def test_buffers_and_peak_take_the_bits_of_each_tensor_and_grow_with_the_batch() -> None:
    full = architecture()
    quantized = network(full, even(4, 8))
    counts = count(quantized, full)
    memory = activation_memory(counted(quantized, full), counted(network(full), full), a_bits=2, batch=3)
    assert [m.name for m in memory] == list(RULES)
    buffers, peak = memory[:2]
    assert (buffers.size_bytes, peak.size_bytes) == (3 * counts.activation_bytes, 3 * 319_488)
    assert (buffers.fp32_bytes, peak.fp32_bytes) == (3 * 4 * 1_641_226, 3 * 4 * 319_488)
    assert peak.ratio == 4
