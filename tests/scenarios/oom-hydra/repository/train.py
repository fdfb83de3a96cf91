import sys

from compose import compose
from network import check, fit

config = compose(config_name="config", overrides=sys.argv[1:])
check(fit(config["loader"]["batch_size"], config["trainer"]["accumulate_grad_batches"], config["rate"]))
