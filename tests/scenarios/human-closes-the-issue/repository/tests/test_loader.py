import asyncio

import pytest
from loader import Loader


@pytest.mark.timeout(0.2)
def test_the_first_record_comes_in_time():
    assert asyncio.run(Loader([3, 1]).first()) == 3


def test_a_loader_knows_its_length():
    assert len(Loader([3, 1])) == 2
