"""What is kept back of the file descriptors, and how many there are."""

from __future__ import annotations

import subprocess
import sys

from prox.http import descriptors


def test_what_is_kept_back() -> None:
    for limit in (16, 64, 256, 1024, 1 << 20):
        kept = descriptors.of_limit(limit)
        assert 0 < kept.accept < kept.connect < kept.limit == limit
        assert kept.limit - kept.connect == kept.connect - kept.accept <= 64


def test_the_limit_is_raised_as_far_as_it_may_be() -> None:
    program = """
import resource
from prox.http.descriptors import raise_limit, room
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (100, hard))
assert room().limit == 100
raise_limit()
print(room().limit == (min(hard, 1 << 20) if hard >= 0 else 1 << 20), resource.getrlimit(resource.RLIMIT_NOFILE)[1] == hard)
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ended.stdout.split() == ["True", "True"]
