from shuffle import order


def test_every_record_is_read_once():
    assert sorted(order(100, epoch=1)) == list(range(100))
