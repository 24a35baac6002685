"""A client names a model; only the house says where it lies."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.runners import catalogue
from jobs.runners.base import BadInput


def test_our_own_model_is_there_without_any_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TALLYSTICK_MODELS", raising=False)
    assert (Path(catalogue.reference_of(catalogue.DEFAULT)) / "model_index.json").is_file()


def test_a_house_adds_models_by_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TALLYSTICK_MODELS", '{"sd-1.5": "owner/name"}')
    assert set(catalogue.models()) == {"sd-1.5", "tiny-shapes"}
    assert catalogue.reference_of("sd-1.5") == "owner/name"


@pytest.mark.parametrize("name", ["", "sd-1.5", "../tiny-shapes", "/etc", None, 7, ["tiny-shapes"]])
def test_an_unknown_model_is_refused_and_the_known_ones_are_named(name: object) -> None:
    with pytest.raises(BadInput) as caught:
        catalogue.reference_of(name, "")
    assert (caught.value.field, caught.value.rule) == ("model", "must be one of tiny-shapes")


@pytest.mark.parametrize(
    "setting", ["{", "[]", "3", '{"a": 1}', '{"a": ""}', '{"": "x"}', '{"A b": "x"}', '{"../a": "x"}']
)
def test_a_setting_that_is_no_list_of_models_says_so(setting: str) -> None:
    with pytest.raises(catalogue.BadCatalogue, match="TALLYSTICK_MODELS"):
        catalogue.models(setting)
