import unittest

from freezegun import freeze_time

from clock import age


class Age(unittest.TestCase):
    def test_it_grows(self):
        with freeze_time(100):
            self.assertEqual(age(40), 60)
