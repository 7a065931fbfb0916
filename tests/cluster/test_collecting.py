"""While a decision is made nothing is looked through for garbage; before and after it is as it was."""

from __future__ import annotations

import gc

import pytest

from cluster.collecting import not_collecting


def test_garbage_is_looked_for_again_after_a_decision_even_one_that_failed():
    with not_collecting():
        assert not gc.isenabled()
    assert gc.isenabled()
    with pytest.raises(ValueError, match="no decision"), not_collecting():
        raise ValueError("no decision")
    assert gc.isenabled()


def test_who_never_looks_for_garbage_is_left_alone():
    gc.disable()
    try:
        with not_collecting():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
