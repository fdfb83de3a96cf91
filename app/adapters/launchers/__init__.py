"""Where runs that last are started."""
