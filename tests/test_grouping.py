"""How these tests are spread over processes."""

from __future__ import annotations

import pytest


def test_the_tests_of_a_file_stay_in_one_process(request: pytest.FixtureRequest) -> None:
    """pytest-xdist 3.8 forgets groups without a word under pytest 9.2: fixtures of a file, and Ray, would be begun once
    in every process."""
    if not getattr(request.config.option, "loadgroup", False):
        pytest.skip("not under pytest-xdist with --dist loadgroup")
    assert request.node.nodeid.endswith(f"@{request.node.path}")
