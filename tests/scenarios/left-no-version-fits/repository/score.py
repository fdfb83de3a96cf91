import gridfit
import plotgrid

print(gridfit.__version__, plotgrid.__version__)
