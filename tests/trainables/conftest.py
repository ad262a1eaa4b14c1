"""Networks of few layers for the tests of this folder."""

from collections.abc import Iterator
from typing import Any

import pytest

SHORT = ((1, 16, 1, 1), (6, 24, 2, 1), (6, 32, 1, 2))
"""Stages of a MobileNetV2 of four blocks instead of 17: each kind of block is there, with its strides and its sum."""


@pytest.fixture(scope="module", autouse=True)
def short_mobilenet(request: pytest.FixtureRequest) -> Iterator[Any]:
    """MobileNetV2 has four blocks, except in files that say `WHOLE_NETWORKS = True`; gives the stages of the whole."""
    from trainables.models import layout, mobilenet_v2

    whole = mobilenet_v2.STAGES
    with pytest.MonkeyPatch.context() as patch:
        if not getattr(request.module, "WHOLE_NETWORKS", False):
            patch.setattr(mobilenet_v2, "STAGES", SHORT)
        layout.forget()
        yield whole
    layout.forget()


@pytest.fixture
def whole_mobilenet(short_mobilenet: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """MobileNetV2 has all its blocks in this test."""
    from trainables.models import layout

    monkeypatch.setattr("trainables.models.mobilenet_v2.STAGES", short_mobilenet)
    layout.forget()
    yield
    layout.forget()
