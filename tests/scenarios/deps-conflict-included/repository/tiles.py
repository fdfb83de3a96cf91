"""Says which versions make the tiles."""

import meshgrain
import terrainstore
import tilemaker

for module in (meshgrain, terrainstore, tilemaker):
    print(module.__name__, module.__version__)
