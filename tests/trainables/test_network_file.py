from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tests.trainables.factories import CPU, digits, make_architecture, make_model, make_quantized
from trainables.config import QuantScheme
from trainables.data.images import Images
from trainables.errors import ConfigError, CorruptFile
from trainables.export.packed import Header, pack
from trainables.network_file import check_fits, load_network, read_network
from trainables.quant.fold import round_side_info_
from trainables.stages.files import finished_files
from trainables.stages.stage import StageResult
from trainables.storage import StoragePath, replace
from trainables.train.predict import predict

MEAN, STD = (0.5,), (0.25,)


def packed_file(folder: StoragePath) -> StoragePath:
    model = make_quantized()
    round_side_info_(model, side_bits=QuantScheme().side_bits)
    header = Header(architecture=make_architecture(), scheme=QuantScheme(), mean=MEAN, std=STD)
    replace(folder / "model.mbq", pack(model, header))
    return folder / "model.mbq"


def test_a_packed_file_says_how_its_input_is_normalized(storage: StoragePath) -> None:
    network = read_network(packed_file(storage), None)
    assert (network.mean, network.std, network.architecture) == (MEAN, STD, make_architecture())
    images = Images(digits().val, MEAN, STD, CPU.torch)
    np.testing.assert_array_equal(network.predict(digits().val, digits(), CPU), predict(network.model, images))


def test_a_loaded_network_takes_pixels_as_the_search_measured_them(storage: StoragePath) -> None:
    path, pixels = packed_file(storage), torch.from_numpy(digits().val.images)
    network = load_network(path)
    with torch.no_grad():
        shares = network(pixels).softmax(dim=1).numpy()
    np.testing.assert_allclose(shares, read_network(path, None).predict(digits().val, digits(), CPU), atol=2e-3)
    assert (network.training, network.network.training) == (False, False)
    assert "mean" not in network.state_dict()


def test_a_truncated_packed_file_is_refused(storage: StoragePath) -> None:
    path = packed_file(storage)
    replace(path, b"\x00" * 100)
    with pytest.raises(CorruptFile):
        read_network(path, None)


@pytest.mark.parametrize("name", ["", "weights.safetensors"])
def test_a_stage_knows_its_network_by_its_folder_and_by_its_weights(name: str, storage: StoragePath) -> None:
    model, scheme = make_quantized(), QuantScheme()
    stage = StageResult(architecture=make_architecture(), scheme=scheme, state=model.state_dict(), metrics={})
    for file, content in finished_files(stage, kind="qat", seconds=1.0).items():
        replace(storage / "stage" / file, content)
    found = read_network(storage / "stage" / name if name else storage / "stage", None)
    pixels = torch.randn(4, 1, 8, 8)
    torch.testing.assert_close(found.model.eval()(pixels), model(pixels))


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_plain_weights_are_read_into_the_architecture_that_is_given(suffix: str, tmp_path: Path) -> None:
    model, path = make_model(), tmp_path / f"net{suffix}"
    state = model.state_dict()
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    found = read_network(path, make_architecture())
    pixels = torch.randn(4, 1, 8, 8)
    torch.testing.assert_close(found.model.eval()(pixels), model(pixels))
    assert found.size_bytes == path.stat().st_size
    with pytest.raises(ConfigError, match="does not say whose: name the experiment"):
        read_network(path, None)
    with pytest.raises(ConfigError, match="another architecture"):
        read_network(path, make_architecture("vgg16"))


def test_weights_in_a_bucket_are_refused_with_a_way_out(bucket: str) -> None:
    from trainables.storage import storage_path

    with pytest.raises(ConfigError, match="copy it first"):
        read_network(storage_path(f"{bucket}/net.pt"), make_architecture())


@pytest.mark.parametrize("name", ["none.mbq", "none.safetensors"])
def test_a_missing_file_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read"):
        read_network(tmp_path / name, make_architecture())


def test_a_data_set_with_other_images_is_refused(tmp_path: Path) -> None:
    network = read_network(packed_file(tmp_path), None)
    check_fits(network, digits(), name="digits")
    other = make_architecture(image_size=16)
    with pytest.raises(ConfigError, match=r"takes images of 1 x 16 x 16 in 10 classes, but digits has 1 x 8 x 8 in 10"):
        check_fits(type(network)(network.model, other), digits(), name="digits")


def test_without_constants_of_its_own_a_network_takes_those_of_the_data(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    save_file(make_model().state_dict(), path)
    network = read_network(path, make_architecture())
    data = digits()
    own = type(network)(network.model, network.architecture, data.mean, data.std)
    np.testing.assert_array_equal(network.predict(data.val, data, CPU), own.predict(data.val, data, CPU))
