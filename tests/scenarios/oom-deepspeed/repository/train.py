from engine import Engine
from network import check, fit

engine = Engine.read("ds_config.json")
assert engine.micro_batch * engine.steps == 2048, "the rate is chosen for updates of 2048 rows"
check(fit(engine.micro_batch, engine.steps))
