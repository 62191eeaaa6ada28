"""Cart weights against ridge regression by hand, and the laws that serving relies on."""

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.errors import DataError, EmptyDataError
from recsys.models.cart import CartConfig, CartModel, _largest_cells

PLAIN = CartConfig(penalty=0.3, half_life_days=None, weights_per_product=50)


def random_orders(seed: int, n: int = 60, width: int = 6) -> sp.csr_array:
    rng = np.random.default_rng(seed)
    orders = (rng.random((n, width)) < 0.35).astype(np.float32)
    orders[0] = 0  # an order whose products are all unknown
    return sp.csr_array(orders)


def test_weights_and_prior_are_the_ridge_regression_of_each_product_on_the_rest() -> None:
    orders = random_orders(1)
    model = CartModel(PLAIN).fit(orders)
    dense = orders.toarray().astype(float)
    dense = dense[dense.sum(axis=1) > 0]
    weight = 1 / np.sqrt(dense.sum(axis=1))
    with_constant = np.column_stack([dense, np.ones(len(dense))])
    for target in range(6):
        others = [column for column in range(7) if column != target]
        x = with_constant[:, others]
        ridge = np.linalg.solve(
            x.T @ (weight[:, None] * x) + model.ridge_ * np.eye(6), x.T @ (weight * dense[:, target])
        )
        assert model.weights_.toarray()[[o for o in others if o < 6], target] == pytest.approx(ridge[:-1], abs=1e-6)
        assert model.prior_[target] == pytest.approx(ridge[-1], abs=1e-6)


def test_a_pair_outside_the_head_is_regressed_alone() -> None:
    orders = sp.csr_array(np.array([[1, 1, 0], [1, 1, 1], [1, 0, 0], [1, 0, 1]]))
    model = CartModel(PLAIN.model_copy(update={"head_size": 1})).fit(orders)
    weight = 1 / np.sqrt([2, 3, 1, 2])
    n_both, n_two = weight[1], weight[1] + weight[3]
    share_of_one = (weight[0] + weight[1]) / (weight.sum() + model.ridge_)
    assert model.prior_[1] == pytest.approx(share_of_one)
    assert model.weights_.toarray()[2, 1] == pytest.approx((n_both - n_two * share_of_one) / (n_two + model.ridge_))


def test_the_penalty_is_in_weighted_orders_of_the_average_product() -> None:
    orders = sp.csr_array(np.array([[1, 1, 0, 0], [1, 0, 0, 0], [1, 1, 1, 0]]))
    weight = 1 / np.sqrt([2, 1, 3])
    counts = [weight.sum(), weight[0] + weight[2], weight[2]]  # the fourth product was never sold
    assert CartModel(PLAIN).fit(orders).ridge_ == pytest.approx(0.3 * np.mean(counts))


def test_repeating_all_orders_changes_no_weight() -> None:
    orders = random_orders(6)
    one, thrice = CartModel(PLAIN).fit(orders), CartModel(PLAIN).fit(sp.csr_array(sp.vstack([orders] * 3)))
    assert one.weights_.toarray() == pytest.approx(thrice.weights_.toarray(), abs=1e-6)
    assert one.prior_ == pytest.approx(thrice.prior_, abs=1e-6)


def test_an_old_order_counts_less() -> None:
    orders = sp.csr_array(np.array([[1, 1, 0], [1, 0, 1]] * 10))
    fresh_second = np.tile([240.0, 0.0], 10)
    config = CartConfig(half_life_days=120.0)
    scores = CartModel(config).fit(orders, fresh_second).score(sp.csr_array(np.array([[1.0, 0, 0]])))[0]
    assert scores[2] > scores[1]
    timeless = CartModel(CartConfig(half_life_days=None)).fit(orders, fresh_second)
    alike = timeless.score(sp.csr_array(np.array([[1.0, 0, 0]])))[0]
    assert alike[2] == pytest.approx(alike[1], abs=1e-6)


def test_a_bestseller_is_not_counted_once_for_every_product_it_is_bought_with() -> None:
    # Product 2 is in three orders of four whatever else is in them; product 3 only goes with both 0 and 1.
    orders = np.zeros((400, 4))
    orders[:, 2] = np.arange(400) % 4 > 0
    orders[:200, [0, 1]] = 1
    orders[:160, 3] = 1
    carts = sp.csr_array(np.array([[1.0, 1.0, 0, 0]]))
    together = CartModel(PLAIN.model_copy(update={"penalty": 0.02})).fit(sp.csr_array(orders)).score(carts)[0]
    assert together[3] > together[2]
    counts = orders.T @ orders
    summed = (counts / np.diag(counts)[:, None])[:2, :].sum(axis=0)
    assert summed[2] == pytest.approx(2 * 150 / 200)  # confidence adds the bestseller up to above one


def test_only_the_largest_weights_are_kept_ties_to_the_lower_column() -> None:
    block = np.array([[0.1, -0.5, 0.3, 0.3], [0.0, 0.0, 0.2, 0.0]])
    kept = _largest_cells(block, 2).largest_of_rows(2)
    assert (kept.rows.tolist(), kept.columns.tolist()) == ([0, 0, 1], [1, 2, 2])
    assert kept.values.tolist() == [-0.5, 0.3, 0.2]


def test_rows_of_the_weights_are_never_longer_than_asked_and_hold_no_diagonal() -> None:
    model = CartModel(CartConfig(weights_per_product=3)).fit(random_orders(2, 200, 12))
    assert 3 < np.diff(model.weights_.indptr).max() <= 6, "three by weight and three by confidence"
    assert model.lifts_.indices.tolist() == model.weights_.indices.tolist()
    assert (model.weights_.diagonal() == 0).all()
    assert model.weights_.dtype == np.float32


def test_weight_and_lift_are_the_confidence_beyond_the_prior() -> None:
    orders = random_orders(1)
    model = CartModel(PLAIN).fit(orders)
    both = (orders.T @ orders).toarray()
    own = both.diagonal()
    confidence = (both - own[:, None] * model.prior_[None, :]) / (own[:, None] + 30.0)
    found = (model.weights_ + model.lifts_).toarray()
    off = ~np.eye(6, dtype=bool)
    assert found[off] == pytest.approx(confidence[off], abs=1e-6)


def test_beside_one_product_a_quarter_of_the_score_is_its_confidence() -> None:
    model = CartModel(PLAIN).fit(random_orders(1))
    carts = sp.csr_array(np.array([[1, 0, 0, 0, 0, 0], [1, 1, 1, 0, 0, 0]], dtype=np.float32))
    one, three = model.score(carts)
    weight, lift = model.weights_.toarray(), model.lifts_.toarray()
    assert one == pytest.approx(model.prior_ + weight[0] + lift[0] / 4, abs=1e-6)
    assert three == pytest.approx(model.prior_ + weight[:3].sum(axis=0) + lift[:3].sum(axis=0) / 6, abs=1e-6)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.permutations(range(60)))
def test_the_order_of_the_orders_does_not_matter(seed: int, order: list[int]) -> None:
    orders = random_orders(seed)
    one, other = CartModel(PLAIN).fit(orders), CartModel(PLAIN).fit(orders[np.array(order)])
    assert one.score(orders) == pytest.approx(other.score(orders), abs=1e-5)


def test_a_product_that_was_never_sold_has_no_score() -> None:
    orders = sp.csr_array(np.column_stack([random_orders(3).toarray(), np.zeros(60)]))
    model = CartModel(PLAIN).fit(orders)
    assert model.prior_[6] == 0
    assert model.weights_.toarray()[6].tolist() == [0] * 7
    assert (model.score(orders)[:, 6] == 0).all()


def test_fitting_twice_gives_equal_bytes() -> None:
    orders = random_orders(4, 300, 20)
    one, other = CartModel().fit(orders), CartModel().fit(orders)
    assert one.weights_.data.tobytes() == other.weights_.data.tobytes()
    assert one.weights_.indices.tolist() == other.weights_.indices.tolist()


def test_nothing_to_learn_from_is_refused() -> None:
    with pytest.raises(EmptyDataError, match="0 orders with a product"):
        CartModel().fit(sp.csr_array((3, 4)))
    with pytest.raises(DataError, match="2 ages for 60 orders"):
        CartModel().fit(random_orders(5), np.zeros(2))
