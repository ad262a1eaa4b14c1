"""Networks of few layers for the tests of this folder."""

from collections.abc import Iterator

import pytest

WHOLE = ((1, 16, 1, 1), (6, 24, 2, 1), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
SHORT = ((1, 16, 1, 1), (6, 24, 2, 1), (6, 32, 1, 2))
"""Stages of a MobileNetV2 of four blocks instead of 17: each kind of block is there, with its strides and its sum."""


@pytest.fixture(scope="module", autouse=True)
def short_mobilenet(request: pytest.FixtureRequest) -> Iterator[None]:
    """MobileNetV2 has four blocks, except in files that say `WHOLE_NETWORKS = True`."""
    from trainables.models import mobilenet_v2

    with pytest.MonkeyPatch.context() as patch:
        if not getattr(request.module, "WHOLE_NETWORKS", False):
            patch.setattr(mobilenet_v2, "STAGES", SHORT)
        yield


@pytest.fixture
def whole_mobilenet(monkeypatch: pytest.MonkeyPatch) -> None:
    """MobileNetV2 has all its blocks in this test."""
    monkeypatch.setattr("trainables.models.mobilenet_v2.STAGES", WHOLE)
