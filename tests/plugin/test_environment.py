from __future__ import annotations

import pytest

from prox.plugin import PluginSpec
from prox.plugin.accounts import Account
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


def test_every_name_that_is_passed_on_by_itself() -> None:
    passed = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "TZ", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR")
    own = dict.fromkeys((*passed, "LC_ALL", "LC_TIME", "LC_"), "1")
    others = ("LANGUAGE", "PATHS", "path", "SHELL", "LD_PRELOAD", "PYTHONPATH", "LC", "XLC_ALL", "PROX_TOKEN")
    found = plugin_environment(PluginSpec(path="/p"), own | dict.fromkeys(others, "1"), "/run/1")
    assert found == own | {"PROX_PLUGIN_DIR": "/run/1"}


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("*", {"A", "AB", "a.b", "B_A", "A[1]", "A?"}),
        ("A*", {"A", "AB", "A[1]", "A?"}),
        ("*A", {"A", "B_A"}),
        ("*_*", {"B_A"}),
        ("A?", {"A?"}),
        ("A[1]", {"A[1]"}),
        ("[A]*", set()),
        ("a", set()),
    ],
)
def test_only_the_star_stands_for_others(pattern: str, names: set[str]) -> None:
    own = dict.fromkeys(("A", "AB", "a.b", "B_A", "A[1]", "A?"), "1")
    found = plugin_environment(PluginSpec(path="/p", env_pass=(pattern,)), own, "/run/1")
    assert found.keys() - {"PROX_PLUGIN_DIR"} == names


@pytest.mark.parametrize(
    ("name", "home", "expected"),
    [
        ("nobody", "/none", {"HOME": "/none", "USER": "nobody", "LOGNAME": "nobody"}),
        ("", "/", {"HOME": "/"}),  # a number that the system does not list
        ("", "", {"HOME": "/h", "USER": "root", "LOGNAME": "root"}),  # only the group is another
    ],
)
def test_the_home_of_another_user(name: str, home: str, expected: dict[str, str]) -> None:
    account = Account(uid=1, gid=1, groups=(1,), name=name, home=home)
    own = {"HOME": "/h", "USER": "root", "LOGNAME": "root"}
    found = plugin_environment(PluginSpec(path="/p", env_pass=("*",)), own, "/run/1", account)
    assert found == expected | {"PROX_PLUGIN_DIR": "/run/1"}
    mine = plugin_environment(PluginSpec(path="/p", env={"HOME": "/mine"}), own, "/run/1", account)
    assert mine["HOME"] == "/mine"


def test_settings_beat_what_is_passed_on_but_not_the_directory() -> None:
    spec = PluginSpec(path="/p", env={"PATH": "/mine", "PROX_PLUGIN_DIR": "/elsewhere"})
    found = plugin_environment(spec, OWN, "/run/1")
    assert found["PATH"] == "/mine"
    assert found["PROX_PLUGIN_DIR"] == "/run/1"
