import argparse

from parcels import check, fit, parcels

parser = argparse.ArgumentParser()
parser.add_argument("--learning-rate", "--lr", type=float, default=1.5, help="of every step")
parser.add_argument("--parcels", type=int, default=2000)
options = parser.parse_args()

check(fit(parcels(options.parcels, seed=5), options.learning_rate, clip=None))
