from __future__ import annotations

import pytest

from prox.plugin import PluginSpec
from prox.plugin.environment import plugin_environment

OWN = {
    "PATH": "/bin",
    "LC_ALL": "C",
    "LCX": "1",
    "HOME": "/h",
    "AWS_KEY": "k",
    "AWS_SECRET": "s",
    "aws_x": "l",
}


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ({}, {"PATH", "LC_ALL", "HOME"}),
        ({"env_pass": ("AWS_KEY",)}, {"PATH", "LC_ALL", "HOME", "AWS_KEY"}),
        ({"env_pass": ("AWS_*",)}, {"PATH", "LC_ALL", "HOME", "AWS_KEY", "AWS_SECRET"}),
        ({"env_pass": ("*",)}, set(OWN)),
        ({"env_pass": ("AWS_[KS]*", "AWS_KE?")}, {"PATH", "LC_ALL", "HOME"}),
        ({"env": {"NEW": "1"}}, {"PATH", "LC_ALL", "HOME", "NEW"}),
    ],
)
def test_what_is_passed_on(settings: dict[str, object], names: set[str]) -> None:
    spec = PluginSpec(path="/p", **settings)  # type: ignore[arg-type] # typed by the cases
    assert set(plugin_environment(spec, OWN, "/run/1")) == names | {"PROX_PLUGIN_DIR"}


def test_settings_beat_what_is_passed_on_but_not_the_directory() -> None:
    spec = PluginSpec(path="/p", env={"PATH": "/mine", "PROX_PLUGIN_DIR": "/elsewhere"})
    found = plugin_environment(spec, OWN, "/run/1")
    assert found["PATH"] == "/mine"
    assert found["PROX_PLUGIN_DIR"] == "/run/1"
