"""The linear probe against scikit-learn's solution at a tight tolerance, and its protocol."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch.nn.functional import cross_entropy, normalize

from tfcli.errors import ConfigError, DataError
from tfcli.probes import linear as module
from tfcli.probes.linear import QUICK, linear, sweep
from tfcli.probes.logistic import Curvature, Space, fit, predict


def clusters(n: int, width: int, classes: int, *, noise: float, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Gaussian classes in a falling spectrum, around a common mean."""
    draw = torch.Generator().manual_seed(seed)
    spread = torch.arange(1, width + 1).float().rsqrt()
    centres = torch.randn(classes, width, generator=draw) * spread
    label = torch.arange(n) % classes
    label = label[torch.randperm(n, generator=draw)]
    x = centres[label] + noise * torch.randn(n, width, generator=draw) * spread
    return x + 0.5 * torch.randn(width, generator=draw), label


def objective(weight, bias, x, label, C: float) -> float:
    """In float64; the binary form where scikit-learn has one row of weights."""
    weight, bias = torch.as_tensor(weight).double(), torch.as_tensor(bias).double()
    logits = x.double() @ weight.T + bias
    if len(weight) == 1:
        logits = torch.cat([torch.zeros_like(logits), logits], 1)
    return float(weight.square().sum() / 2 + C * cross_entropy(logits, label, reduction="sum"))


def reference(x, label, C: float, *, tol: float = 1e-9) -> LogisticRegression:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the line search may end at the last digit
        model = LogisticRegression(C=C, tol=tol, max_iter=5_000, solver="newton-cg")
        return model.fit(x.double().numpy(), label.numpy())


SCALES = {
    "norm 10": lambda x: 10 * normalize(x),
    "norm 1": normalize,
    "pixels": lambda x: ((x - x.min()) / (x.max() - x.min()) * 255).round(),
    "tiny": lambda x: 1e-4 * x,
    "with constants": lambda x: torch.cat([x, torch.full((len(x), 3), 7.0), torch.zeros(len(x), 2)], 1),
}


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("C", [1e-4, QUICK, 100.0])
def test_the_objective_is_scikit_learns_whatever_the_scale(scale, C):
    x, label = clusters(800, 30, 7, noise=2.5)
    x = SCALES[scale](x)
    train, train_label, test, test_label = x[:600], label[:600], x[600:], label[600:]
    ours, theirs = fit(train, train_label, num_classes=7, C=C), reference(train, train_label, C)
    best = objective(theirs.coef_, theirs.intercept_, train, train_label, C)
    assert objective(ours.weight, ours.bias, train, train_label, C) <= best * (1 + 1e-4)
    assert ours.objective == pytest.approx(objective(ours.weight, ours.bias, train, train_label, C), rel=2e-5)
    accuracy = (predict(ours, test).argmax(1) == test_label).float().mean().item()
    assert accuracy == pytest.approx(theirs.score(test.numpy(), test_label.numpy()), abs=0.0101)


@pytest.mark.parametrize("C", [0.01, 1.0, 1000.0])
def test_two_classes_take_the_binary_form(C):
    x, label = clusters(400, 12, 2, noise=4.0)
    ours, theirs = fit(x, label, num_classes=2, C=C), reference(x, label, C)
    best = objective(theirs.coef_, theirs.intercept_, x, label, C)
    assert objective((ours.weight[1] - ours.weight[0])[None], (ours.bias[1] - ours.bias[0])[None], x, label, C) <= (
        best * (1 + 1e-4)
    )
    assert ours.objective == pytest.approx(best, rel=1e-4)
    assert np.array_equal(predict(ours, x).argmax(1).numpy(), theirs.predict(x.numpy()))


def test_separable_samples_at_the_weakest_penalty():
    x, label = clusters(300, 40, 5, noise=0.3)
    ours, theirs = fit(x, label, num_classes=5, C=1e6), reference(x, label, 1e6, tol=1e-12)
    assert objective(ours.weight, ours.bias, x, label, 1e6) <= (
        objective(theirs.coef_, theirs.intercept_, x, label, 1e6) * (1 + 1e-4)
    )
    assert (predict(ours, x).argmax(1) == label).all()


def test_many_classes_and_fewer_samples_than_features():
    x, label = clusters(794, 900, 397, noise=0.5)
    ours = fit(x, label, num_classes=397, C=1.0)
    assert ours.gap <= 1e-4
    assert ours.objective == pytest.approx(objective(ours.weight, ours.bias, x, label, 1.0), rel=1e-5)
    assert (predict(ours, x).argmax(1) == label).float().mean() == 1


def test_the_stated_gap_bounds_what_a_tighter_fit_gains():
    x, label = clusters(500, 20, 6, noise=3.0)
    loose, tight = (fit(x, label, num_classes=6, C=10.0, tol=tol) for tol in (1e-2, 1e-6))
    assert tight.objective <= loose.objective * (1 + 1e-6)
    assert loose.objective - tight.objective <= loose.gap * loose.objective


def test_bfloat16_steps_end_where_float32_ones_do():
    x, label = clusters(3000, 40, 8, noise=3.0)
    space = Space.of(x)
    plain = Space(space.x, None, space.axes, space.mean, space.spread)
    rough = Space(space.x, space.x.bfloat16(), space.axes, space.mean, space.spread)
    for C in (0.01, 1.0, 1e4):
        objectives = [fit(s, label, num_classes=8, C=C).objective for s in (plain, rough)]
        assert objectives[1] == pytest.approx(objectives[0], rel=1e-4)


def test_a_warm_start_ends_at_the_same_place_in_no_more_steps():
    x, label = clusters(600, 30, 6, noise=2.0)
    before = fit(x, label, num_classes=6, C=10.0)
    cold, warm = (fit(x, label, num_classes=6, C=18.0, start=start) for start in (None, before))
    assert warm.objective == pytest.approx(cold.objective, rel=1e-4)
    assert warm.iterations <= cold.iterations


def test_the_curvature_of_few_samples_is_the_exact_hessian_of_each_class():
    x, _ = clusters(40, 6, 3, noise=1.0)
    space, error, C = Space.of(x), torch.zeros(40, 3), 10.0
    error[:8] = torch.rand(8, 3, generator=torch.Generator().manual_seed(0))  # the other samples have no curvature
    gradient = torch.randn(3, space.x.shape[1], generator=torch.Generator().manual_seed(1))
    found = Curvature(error, space, C).solve(gradient)
    for k in range(3):
        weight = C * error[:, k] * (1 - error[:, k])
        hessian = (space.x.T * weight) @ space.x
        hessian[:-1, :-1] += torch.eye(len(hessian) - 1)  # the penalty spares the intercept
        hessian[-1, -1] += weight.sum() / 100  # which is damped a little
        assert torch.allclose(hessian @ found[k], gradient[k], atol=1e-3)


def test_classes_without_training_samples_are_never_answered():
    x, label = clusters(200, 10, 4, noise=1.0)
    ours = fit(x, label * 2, num_classes=9, C=1.0)
    same = fit(x, label, num_classes=4, C=1.0)
    assert ours.objective == pytest.approx(same.objective, rel=1e-6)
    assert set(predict(ours, x).argmax(1).tolist()) <= {0, 2, 4, 6}


def test_features_that_are_all_alike_give_the_commonest_class():
    label = torch.tensor([0, 1, 1, 2])
    ours = fit(torch.full((4, 3), 2.0), label, num_classes=3, C=1.0)
    assert (predict(ours, torch.full((1, 3), 2.0)).argmax(1) == 1).all()


@pytest.mark.parametrize("C", [0.0, -1.0, float("nan"), float("inf")])
def test_a_penalty_that_is_none_is_refused(C):
    x, label = clusters(20, 3, 2, noise=1.0)
    with pytest.raises(ConfigError, match="C must be a positive number"):
        fit(x, label, num_classes=2, C=C)


def test_one_class_is_refused():
    with pytest.raises(DataError, match="two classes"):
        fit(torch.randn(5, 3), torch.ones(5, dtype=torch.int64), num_classes=2, C=1.0)


def test_the_sweep_is_the_papers():
    x, label = clusters(900, 20, 6, noise=3.0)
    found = sweep(x[:600], label[:600], (x[600:], label[600:]), num_classes=6)
    tried = [row.C for row in found.rows]
    places = [round(8 * np.log10(C)) for C in tried]
    assert set(range(-48, 49, 16)) <= set(places)
    assert 7 < len(tried) <= 15
    best = max(row.figure for row in found.rows)
    assert min(row.C for row in found.rows if row.figure == best) == found.C
    near = round(8 * np.log10(found.C))
    assert {p for p in (near - 1, near + 1) if -48 <= p <= 48} & set(places)


def test_a_grid_of_ones_own_and_wrong_ones():
    x, label = clusters(100, 5, 3, noise=1.0)
    found = sweep(x, label, (x, label), num_classes=3, grid=[10, 0.1])
    assert [row.C for row in found.rows] == [0.1, 10.0]
    with pytest.raises(ConfigError, match="clip"):
        sweep(x, label, (x, label), num_classes=3, grid="clop")
    with pytest.raises(ConfigError, match="per_class"):
        sweep(x, label, (x, label), num_classes=3, select="per_clas")
    with pytest.raises(ConfigError, match="no value"):
        sweep(x, label, (x, label), num_classes=3, grid=[])


@pytest.fixture(scope="module")
def splits():
    x, label = clusters(900, 16, 5, noise=2.0)
    return (x[:400], label[:400]), (x[400:600], label[400:600]), (x[600:], label[600:])


def test_c_does_not_depend_on_the_test_split(splits):
    train, val, test = splits
    shuffled = test[1][torch.randperm(len(test[1]), generator=torch.Generator().manual_seed(0))]
    for validation in (val, None):
        honest = linear(train, validation, test, num_classes=5)
        noise = linear(train, validation, (torch.randn(300, 16), shuffled), num_classes=5)
        assert (honest.C, honest.rows) == (noise.C, noise.rows)
        assert torch.equal(honest.fit.weight, noise.fit.weight)
        assert honest.test.accuracy > 0.5


def test_shuffled_test_labels_give_chance(splits):
    train, val, test = splits
    shuffled = test[1][torch.randperm(len(test[1]), generator=torch.Generator().manual_seed(3))]
    low, high = linear(train, val, (test[0], shuffled), num_classes=5).test.accuracy_interval
    assert low <= 0.2 + 0.05
    assert high >= 0.2 - 0.05
    assert high < 0.35


def test_the_final_fit_sees_validation_only_if_told(splits):
    train, val, test = splits
    both, alone = (linear(train, val, test, num_classes=5, C=1.0, refit=refit) for refit in (True, False))
    assert (both.refitted, alone.refitted) == (True, False)
    assert both.val == alone.val
    joined = fit(torch.cat([train[0], val[0]]), torch.cat([train[1], val[1]]), num_classes=5, C=1.0)
    assert both.fit.objective == pytest.approx(joined.objective, rel=1e-4)
    assert alone.fit.objective == pytest.approx(fit(*train, num_classes=5, C=1.0).objective, rel=1e-4)


def test_without_validation_a_part_of_train_is_held_out_and_given_back(splits):
    train, _, test = splits
    result = linear(train, None, test, num_classes=5, grid=[0.01, 1.0], seed=1)
    assert (result.carved, result.refitted) == (80, True)
    assert result.fit.objective == pytest.approx(fit(*train, num_classes=5, C=result.C).objective, rel=1e-4)
    assert result.mean_norm == pytest.approx(train[0].norm(dim=1).mean().item(), rel=0.1)


def test_features_that_are_not_finite_stop_the_probe(splits, monkeypatch):
    train, val, test = splits
    bad = test[0].clone()
    bad[7] = float("nan")
    monkeypatch.setattr(module, "fit", None)  # nothing is fitted before it is found
    with pytest.raises(DataError, match="test: features of row 7"):
        linear(train, val, (bad, test[1]), num_classes=5)
