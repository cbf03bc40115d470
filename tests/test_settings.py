from __future__ import annotations

import pytest

from limnet.errors import InputError
from limnet.settings import Settings, parse_settings


def test_round_trip() -> None:
    settings = Settings(scope="interval", tau=0.3, stop_after_empty=5)
    assert Settings.from_json(settings.to_json()) == settings
    assert Settings.from_json({}) == Settings()


@pytest.mark.parametrize(
    "bad",
    [
        {"scope": "all"},
        {"tau": 1.1},
        {"tau": True},
        {"tau": float("nan")},
        {"stop_after_empty": -1},
        {"click_fallback": -1},
        {"cache_bytes": 1.5},
        {"quality_batch": 0},
        {"memory_min_frames": 0},
        {"memory_min_frames": 10},
        {"memory_max_frames": 5},
        {"look_back": -1},
        {"look_across": True},
        {"one_sided": 1},
        {"taw": 0.5},
        [],
    ],
)
def test_refuses(bad: object) -> None:
    with pytest.raises(InputError):
        Settings.from_json(bad)


def test_the_paper_alone() -> None:
    """Both scope and threshold are the paper's; whatever else a setting could add is off."""
    paper = Settings.paper().to_json()
    sizes = {"quality_batch", "memory_min_frames", "memory_max_frames", "short_side", "cache_bytes"}
    others = {"scope", "tau", "follow_window", *sizes}
    assert (paper["scope"], paper["tau"]) == ("volume", 0.5)
    assert {name: value for name, value in paper.items() if name not in others and value} == {}


def test_settings_as_text() -> None:
    assert parse_settings(["tau=0.3", "scope=interval", "one_sided=true"]) == {
        "tau": 0.3,
        "scope": "interval",
        "one_sided": True,
    }
    for text, message in (("tau", "give NAME=VALUE"), ("taw=1", "settings are"), ("tau=half", "tau is 'half'")):
        with pytest.raises(InputError, match=message):
            parse_settings([text])


def test_settings_that_are_gone_are_left_out_of_older_models_and_sessions() -> None:
    stored = {"tau": 0.3, "look_across": True, "least_sure": 0.6, "most_growth": 2.0, "stride_mm": 0.0}
    assert Settings.from_stored(stored) == Settings(tau=0.3)
    assert Settings.unknown(stored) == set()
    assert Settings.unknown({**stored, "taw": 1}) == {"taw"}
