import pytest
from metrics import ndcg, precision_at_k, reciprocal_rank

RANKED = ["a", "b", "x", "c", "d"]
RELEVANT = {"a", "b", "c", "d"}


def test_precision_counts_the_first_k_results():
    assert precision_at_k(RANKED, RELEVANT, k=5) == 0.8


def test_reciprocal_rank_is_that_of_the_first_relevant_result():
    assert reciprocal_rank(["x", "y", "a"], {"a"}) == pytest.approx(1 / 3)


def test_ndcg_is_one_for_the_best_order():
    assert ndcg(["a", "b", "x"], {"a", "b"}) == pytest.approx(1.0)
