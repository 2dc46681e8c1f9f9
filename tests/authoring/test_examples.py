"""The plugins in `examples` pass the conformance kit."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key

from prox.authoring.check import CHECKS, Patience, Subject, run

EXAMPLES = Path(__file__).parents[2] / "examples"
PLUGINS = [
    path
    for path in sorted(EXAMPLES.rglob("*.py"))
    if "from prox.sdk import" in path.read_text() and "Manager" not in path.read_text()
]


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    """What some of them need to start."""
    key = jwt.algorithms.ECAlgorithm(jwt.algorithms.ECAlgorithm.SHA256)
    jwk = key.to_jwk(generate_private_key(SECP256R1()).public_key(), as_dict=True)
    keys, jwks = tmp_path / "keys.json", tmp_path / "jwks.json"
    keys.write_text("{}")
    jwks.write_text(json.dumps({"keys": [jwk | {"kid": "k1", "use": "sig"}]}))
    return {"NAMES": "a.test", "KEYS": str(keys), "JWKS": str(jwks), "ISSUER": "i", "AUDIENCE": "a"}


def test_there_are_some() -> None:
    assert len(PLUGINS) >= 7


@pytest.mark.parametrize("path", PLUGINS, ids=lambda path: path.stem)
def test_an_example_passes(path: Path, env: dict[str, str]) -> None:
    subject = Subject([sys.executable, path], env=env, patience=Patience(quiet=0.05))
    outcomes = list(run(subject, CHECKS))
    assert [(o.check.name, o.message) for o in outcomes if o.result == "fail"] == []
    assert sum(o.result == "pass" for o in outcomes) >= 24
