"""What transformers' tests want to know of a device: the file that TRANSFORMERS_TEST_DEVICE_SPEC names."""

import torch

DEVICE_NAME = "rustorch"

MANUAL_SEED_FN = torch.rustorch.manual_seed
EMPTY_CACHE_FN = torch.rustorch.empty_cache
DEVICE_COUNT_FN = torch.rustorch.device_count
