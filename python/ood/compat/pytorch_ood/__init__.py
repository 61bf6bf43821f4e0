"""Drop-in for pytorch_ood: `from ood.compat.pytorch_ood.loss import ...`."""
