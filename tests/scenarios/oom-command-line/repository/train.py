import argparse

from network import check, fit

parser = argparse.ArgumentParser()
parser.add_argument("--batch-size", type=int, default=512)
parser.add_argument("--grad-accum", type=int, default=1)
options = parser.parse_args()

check(fit(options.batch_size, options.grad_accum))
