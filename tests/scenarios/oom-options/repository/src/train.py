import argparse

from network import check, fit

parser = argparse.ArgumentParser()
parser.add_argument("-b", "--batch-size", type=int, default=2048, help="rows at once")
parser.add_argument("--eval-batch-size", type=int, default=256)
parser.add_argument("--grad-accum", type=int, default=1)
parser.add_argument("--rate", type=float, default=0.2)
options = parser.parse_args()

check(fit(options.batch_size, options.grad_accum, options.rate))
