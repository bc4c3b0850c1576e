"""What asks a device tensor for its memory by NumPy's protocol: the refusal names what to do, and that works."""

import pytest
import torch

import rustorch_device

DATA = torch.arange(12.0, device="rustorch").reshape(6, 2)


def _pandas():
    return pytest.importorskip("pandas", reason="pandas is not installed: `make libraries` installs it").DataFrame


def _sklearn():
    reason = "scikit-learn is not installed: `make libraries` installs it"
    scale = pytest.importorskip("sklearn.preprocessing", reason=reason).StandardScaler()
    return lambda data: scale.fit_transform(data)


def _matplotlib():
    reason = "matplotlib is not installed: `make libraries` installs it"
    figure = pytest.importorskip("matplotlib.figure", reason=reason).Figure().add_subplot()
    return lambda data: figure.plot(data)


def _numpy():
    import numpy

    return numpy.asarray


WAYS = {"numpy": _numpy, "pandas": _pandas, "scikit-learn": _sklearn, "matplotlib": _matplotlib}


@pytest.mark.parametrize("way", WAYS)
def test_the_refusal_names_both_ways(way):
    take = WAYS[way]()
    with pytest.raises(TypeError, match=r"Tensor\.cpu\(\).*rustorch_device\.alias"):
        take(DATA)
    assert take(DATA.cpu()) is not None
    assert take(rustorch_device.alias(DATA).numpy()) is not None
