import unittest

from metrics import precision, recall

TRUTH = [1, 1, 1, 1, 0]
PREDICTED = [1, 1, 0, 0, 0]


class Metrics(unittest.TestCase):
    def test_precision_is_the_part_of_the_predicted_that_is_right(self):
        self.assertEqual(precision(TRUTH, PREDICTED), 1.0)

    def test_recall_is_the_part_of_the_true_that_is_found(self):
        self.assertEqual(recall(TRUTH, PREDICTED), 0.5)
