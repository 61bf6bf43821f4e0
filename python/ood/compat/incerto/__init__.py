"""Drop-in for incerto: `from ood.compat.incerto.training import ...`."""
