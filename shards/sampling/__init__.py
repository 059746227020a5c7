"""Which sample comes when: datasets, samplers and their order."""
