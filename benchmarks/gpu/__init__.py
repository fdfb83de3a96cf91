"""Measurements that need a GPU. Nothing else needs them, and no test runs them."""
