import os

import pytest
from classifier import NearestCentroid
from dataset import Dataset, download


@pytest.fixture(scope="module")
def penguins() -> Dataset:
    return download(os.environ["MIRROR_URL"])


def test_every_species_is_in_the_table(penguins):
    assert set(penguins.species) == {"Adelie", "Chinstrap", "Gentoo"}


def test_the_centroids_separate_the_species(penguins):
    model = NearestCentroid().fit(penguins.features, penguins.species)
    accuracy = (model.predict(penguins.features) == penguins.species).mean()
    assert accuracy >= 0.9
