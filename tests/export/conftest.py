from __future__ import annotations

import pytest

from litesmith.export import calibrate, convert

from . import zoo


@pytest.fixture(scope="session")
def converted():
    """Model, float conversion and inputs of a kind, made once."""
    made = {}

    def get(kind):
        if kind not in made:
            model = zoo.make(kind)
            made[kind] = (model, convert(model), zoo.samples(model, 32))
        return made[kind]

    return get


@pytest.fixture(scope="session")
def calibrated(converted):
    """The same, and a calibration on the inputs."""
    made = {}

    def get(kind):
        if kind not in made:
            model, float_model, inputs = converted(kind)
            made[kind] = (model, float_model, inputs, calibrate(float_model, inputs))
        return made[kind]

    return get
