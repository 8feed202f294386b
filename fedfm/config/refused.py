"""What people may ask for by a known name and cannot have, why, and the nearest choice that can be made private."""

Refused = dict[str, tuple[str, str]]
"""Name to the reason, and to the nearest choice."""

ADAPTERS: Refused = {
    "adalora": ("moves rank between layers by statistics of the batch, which are neither clipped nor noised", "lora"),
    "oft": ("its trained layers keep buffers that pass from step to step beside the clipped gradient", "lora"),
    "vera": ("its frozen factors are drawn by torch, which no other site can rebuild bit by bit", "ffa_lora"),
    "prompt_tuning": ("its words enter below every layer and are looked up once for all examples of a batch", "ia3"),
    "p_tuning": ("its words enter below every layer and are looked up once for all examples of a batch", "ia3"),
    "prefix_tuning": ("its keys and values are made once for all examples of a batch", "ia3"),
    "embeddings": ("a word's gradient tells that the word was there, and the table is larger than all else", "bitfit"),
}
"""Adapters that are refused."""

OPTIMIZERS: Refused = {
    "adamw": ("pulls to zero inside the step; here the pull comes after the noise", "adam"),
    "lbfgs": ("takes several gradients in a step, and each would need noise of its own", "sgd"),
    "sam": ("takes a second gradient at a point moved by the first, and each would need noise of its own", "sgd"),
    "sparse_adam": ("moves only the entries that were touched, which tells which they were", "adam"),
}
"""Optimisers that are refused."""
