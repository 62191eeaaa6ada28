"""A retriever, features, a ranker and a baseline as others would write them: no base class, no import of ours."""

# ruff: noqa: N803

import numpy as np
from scipy.special import expit


class SameBrand:
    """Popular products of the brands that an account buys; the brand is the first word of the name."""

    channels: tuple[str, ...] = ("same_brand",)

    def fit(self, snapshot):
        brands = [str(name).partition(" ")[0].lower() for name in snapshot.names]
        self.brand_ = np.unique(brands, return_inverse=True)[1]
        of_brand = np.eye(self.brand_.max(initial=0) + 1, dtype=np.float32)[self.brand_]
        self.taste_ = snapshot.matrix() @ of_brand
        self.taste_ /= np.maximum(self.taste_.sum(axis=1, keepdims=True), 1)
        self.popularity_ = np.asarray(snapshot.decayed(60.0).sum(axis=0), dtype=np.float32)
        return self

    def score(self, accounts):
        return (self.taste_[accounts][:, self.brand_] * self.popularity_)[None]


class OwnedOfPrice:
    """How many products an account owns that cost about as much."""

    names = ("owned_of_price",)

    def fit(self, snapshot):
        lines, n_products = snapshot.lines, snapshot.shape[1]
        spent = np.bincount(lines.product, weights=lines.unit_price, minlength=n_products)
        price = spent / np.maximum(np.bincount(lines.product, minlength=n_products), 1)
        self.step_ = np.log2(1 + price).astype(int)
        self.owned_ = snapshot.matrix() @ np.eye(self.step_.max(initial=0) + 1, dtype=np.float32)[self.step_]
        return self

    def transform(self, account, product):
        return self.owned_[account, self.step_[product]][:, None]


class NormalBayes:
    """Naive Bayes with normal features; a value that is missing says nothing."""

    def __init__(self, share=0.1):
        self.share = share

    def fit(self, X, y, sample_weight=None):
        weight = np.ones(len(y)) if sample_weight is None else np.asarray(sample_weight, dtype=float)
        self.level_ = np.log(weight[y == 1].sum() / weight[y == 0].sum())
        values = X.to_numpy(dtype=float)
        known = ~np.isnan(values)
        self.mean_, self.variance_ = np.zeros((2, values.shape[1])), np.ones((2, values.shape[1]))
        for label in (0, 1):
            counted = known * np.where(y == label, weight, 0.0)[:, None]
            total = np.maximum(counted.sum(axis=0), 1e-9)
            self.mean_[label] = (counted * np.nan_to_num(values)).sum(axis=0) / total
            apart = np.nan_to_num(values) - self.mean_[label]
            self.variance_[label] = (counted * apart**2).sum(axis=0) / total + 1e-3
        return self

    def predict_proba(self, X):
        values = X.to_numpy(dtype=float)[:, None, :]
        logs = -0.5 * (np.log(self.variance_) + (values - self.mean_) ** 2 / self.variance_)
        said = np.clip(np.nan_to_num(logs[:, 1] - logs[:, 0]), -5, 5)
        positive = expit(self.level_ + self.share * said.sum(axis=1))
        return np.column_stack([1 - positive, positive])


class Rising:
    """Products whose buyers of the last month are the most beside those of the last three."""

    name = "rising"

    def fit(self, history, cutoff):
        past = history.before(cutoff).known()
        days = (cutoff.timestamp() - past.seconds) / 86_400
        lately, usually = (np.bincount(past.product[days <= d], minlength=past.n_products) for d in (30, 90))
        self.order_ = np.argsort(-(lately + 0.1) / (usually + 3), kind="stable")
        self.owned_ = past.owned().toarray() > 0
        return self

    def recommend(self, accounts, k):
        lists = np.full((len(accounts), k), -1, dtype=np.int32)
        for row, account in enumerate(accounts):
            best = self.order_[~self.owned_[account, self.order_]][:k]
            lists[row, : len(best)] = best
        return lists
