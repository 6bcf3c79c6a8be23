"""The methods of Hugging Face PEFT that can be trained here, and those that cannot, with the reason.

Defaults are PEFT's, except that all act where LoRA does in section 4 of the paper and the LoRA family has the
paper's rank. A new method of PEFT is a new entry.
"""

from peftbench.methods.hf_lora_family import LORA_FAMILY
from peftbench.methods.hf_settings import HFEntry, choice, count, optional, positive, share, switch, whole

_RANK = "Width of the low-rank factors."
_ALPHA = "The product of the factors is scaled by it over the rank."
_DROPOUT = "Share of the inputs of the low-rank path that is zeroed in training."
_SEED = "Seed of the frozen random matrices, which is the same in all runs."

_REPARAMETRIZED = (
    HFEntry(
        "loha", "LOHA", "LoHa", "reparametrized", "Trains the elementwise product of two low-rank products.",
        "Hyeon-Woo et al. 2021, arXiv:2108.06098",
        {"r": count(8, _RANK), "alpha": positive(8, _ALPHA)}, tiny={"r": 4},
    ),
    HFEntry(
        "lokr", "LOKR", "LoKr", "reparametrized", "Trains a Kronecker product whose larger factor has low rank.",
        "Yeh et al. 2023, arXiv:2309.14859",
        {"r": count(8, _RANK), "alpha": positive(8, _ALPHA),
        "decompose_both": switch(False, "Whether both factors have low rank.")},
        tiny={"r": 2},
    ),
    HFEntry(
        "hira", "HIRA", "HiRA", "reparametrized", "Multiplies each weight by a trained low-rank product.",
        "Huang et al. 2025, HiRA, ICLR", {"r": count(32, _RANK), "hira_dropout": share(0.0, _DROPOUT)},
        tiny={"r": 4},
    ),
    HFEntry(
        "miss", "MISS", "MiSS", "reparametrized",
        "Adds one trained matrix that is repeated over blocks of the inputs.",
        "Kang and Yin 2024, arXiv:2409.15371",
        {"r": count(64, _RANK), "miss_dropout": share(0.0, _DROPOUT)}, tiny={"r": 4},
    ),
    HFEntry(
        "bat", "MISS", "MiSS (bat)", "reparametrized",
        "MiSS whose blocks are multiplied by the weights before they are added.",
        "Kang and Yin 2024, arXiv:2409.15371",
        {"r": count(64, "Size of a block, which divides inputs and outputs.")}, {"init_weights": "bat"},
        {"r": 8},
        limits="r divides inputs and outputs of every target.",
    ),
    HFEntry(
        "gralora", "GRALORA", "GraLoRA", "reparametrized", "LoRA for each block of a weight by itself.",
        "Jung et al. 2025, arXiv:2505.20355",
        {
            "r": count(32, "Rank over all blocks, a multiple of gralora_k."), "alpha": positive(64, _ALPHA),
            "gralora_k": count(2, "Blocks along inputs and along outputs."),
            "hybrid_r": whole(0, "Rank of a plain LoRA beside the blocks."),
            "gralora_dropout": share(0.0, _DROPOUT),
        }, tiny={"r": 4},
        limits="gralora_k divides r, inputs and outputs.",
    ),
    HFEntry(
        "delora", "DELORA", "DeLoRA", "reparametrized",
        "LoRA with normalised factors and a trained bound on how far a weight may move.",
        "Bini et al. 2025, arXiv:2503.18225",
        {"r": count(8, _RANK), "delora_lambda": count(15, "The bound at the beginning.")}, tiny={"r": 4},
    ),
    HFEntry(
        "deft", "DEFT", "DEFT", "reparametrized",
        "Takes a low-rank subspace out of a weight and puts trained values in its place.",
        "Hugging Face PEFT, DEFT",
        {
            "r": count(8, _RANK),
            "decomposition_method": choice("relu", "qr", meaning="How the subspace is projected."),
        }, tiny={"r": 4},
    ),
    HFEntry(
        "glora", "GLORA", "GLoRA", "reparametrized",
        "Low-rank scaling and shifting of weights and biases at once.",
        "Chavan et al. 2023, arXiv:2306.07967",
        {
            "r": count(8, _RANK),
            "config_A_B": choice("lora", "vector", "constant", "none",
            meaning="Form of what changes the weight."),
            "config_C": choice("lora", "vector", "none", meaning="Form of the prompt."),
            "config_D_E": choice("constant", "vector", "none", meaning="Form of what changes the bias."),
        }, tiny={"r": 4}, quantized_base=False,
    ),
    HFEntry(
        "peanut", "PEANUT", "PEANuT", "reparametrized",
        "A small network makes the change of a weight from the weight.",
        "Zhong et al. 2024, arXiv:2410.01870",
        {
            "r": count(32, "Hidden width of the network."), "depth": whole(0,
            "Layers between the first and the last."),
            "act_fn": choice("relu", "gelu", "tanh", "silu", meaning="Activation of the network."),
            "scaling": positive(1.0, "Factor of the change."),
        }, tiny={"r": 4},
    ),
    HFEntry(
        "vera", "VERA", "VeRA", "reparametrized",
        "Trains scaling vectors between shared random low-rank matrices.",
        "Kopiczko et al. 2023, arXiv:2310.11454",
        {
            "r": count(256, "Width of the random matrices."), "d_initial": positive(0.1,
            "First value of the inner vector."),
            "vera_dropout": share(0.0, _DROPOUT), "projection_prng_key": whole(0, _SEED),
        }, tiny={"r": 8},
        limits="Stores its frozen matrices, many times what it trains.",
    ),
    HFEntry(
        "pvera", "PVERA", "PVeRA", "reparametrized", "VeRA with a distribution over the inner vector.",
        "Alfano et al. 2025, arXiv:2512.07703",
        {
            "r": count(256, "Width of the random matrices."), "d_initial": positive(0.1,
            "First value of the inner vector."),
            "projection_prng_key": whole(0, _SEED),
        }, tiny={"r": 8}, draws=True,
        limits="Draws for a whole pass: a step made in several passes draws other numbers.",
    ),
    HFEntry(
        "randlora", "RANDLORA", "RandLoRA", "reparametrized",
        "A full-rank change as a trained combination of random low-rank matrices.",
        "Albert et al. 2025, arXiv:2502.00987",
        {
            "r": count(32, "Rank of each random matrix: the lower, the more of them."),
            "randlora_alpha": positive(640, _ALPHA), "projection_prng_key": whole(0, _SEED),
            "randlora_dropout": share(0.0, _DROPOUT),
        }, tiny={"r": 8, "randlora_alpha": 80},
        limits="Stores its frozen matrices, many times what it trains.",
    ),
    HFEntry(
        "vblora", "VBLORA", "VB-LoRA", "reparametrized",
        "LoRA whose factors are mixed from one bank of vectors.",
        "Li et al. 2024, arXiv:2405.15179",
        {
            "r": count(4, _RANK), "num_vectors": count(256, "Vectors in the bank."),
            "vector_length": count(256, "Their length, which divides inputs and outputs."),
            "topk": count(2, "Vectors mixed into one."), "vblora_dropout": share(0.0, _DROPOUT),
        }, tiny={"num_vectors": 16, "vector_length": 16}, identity_at_start=False,
        limits="vector_length divides inputs and outputs; its makers advise other learning rates by part.",
    ),
    HFEntry(
        "unilora", "UNILORA", "Uni-LoRA", "reparametrized",
        "All LoRA factors of the model as one fixed random projection of one short trained vector.",
        "Li et al. 2025, arXiv:2506.00799",
        {
            "r": count(4, _RANK), "theta_d_length": count(256, "Trained parameters in all."),
            "proj_seed": whole(42, _SEED), "unilora_dropout": share(0.0, _DROPOUT),
        }, identity_at_start=False,
        limits="256 parameters in all by default, which learn little.",
    ),
    HFEntry(
        "tinylora", "TINYLORA", "TinyLoRA", "reparametrized",
        "A trained vector of a few numbers, spread by random matrices over the singular directions of a weight.",
        "arXiv:2602.04118",
        {
            "r": count(2, "Singular directions."), "u": count(64, "Trained numbers of a group of targets."),
            "projection_seed": whole(42, _SEED), "tinylora_dropout": share(0.0, _DROPOUT),
        },
        limits="Very few parameters by design; begins with a decomposition of every target.",
    ),
    HFEntry(
        "fourierft", "FOURIERFT", "FourierFT", "reparametrized",
        "Trains a few frequencies of the change of a weight.",
        "Gao et al. 2024, arXiv:2405.03003",
        {
            "n_frequency": count(1000, "Trained frequencies of each target."),
            "scaling": positive(150.0, "Factor of the change."), "random_loc_seed": whole(777,
            "Seed of their places."),
        }, tiny={"n_frequency": 50, "scaling": 20.0}, identity_at_start=False,
        limits="A dense inverse transform in every layer and step.",
    ),
    HFEntry(
        "waveft", "WAVEFT", "WaveFT", "reparametrized",
        "Trains a few wavelet coefficients of the change of a weight.",
        "Bilican et al. 2025, arXiv:2505.12532",
        {
            "n_frequency": count(2592, "Trained coefficients of each target."),
            "scaling": positive(25.0, "Factor of the change."), "random_loc_seed": whole(777,
            "Seed of their places."),
        }, tiny={"n_frequency": 50},
    ),
    HFEntry(
        "c3a", "C3A", "C3A", "reparametrized",
        "Adds a trained block-circulant matrix, computed by Fourier transforms.",
        "Chen et al. 2024, arXiv:2407.19342",
        {"block_size": count(256, "Size of a block, which divides inputs and outputs.")}, tiny={"block_size": 8},
        identity_at_start=False,
        limits="block_size divides inputs and outputs; PEFT's own benchmark trains it at a rate of 0.3.",
    ),
    HFEntry(
        "oft", "OFT", "OFT", "reparametrized", "Turns the inputs of a weight by trained orthogonal blocks.",
        "Qiu et al. 2023, arXiv:2306.07280",
        {
            "oft_block_size": count(32, "Size of a block, which divides the inputs."),
            "use_cayley_neumann": switch(True, "Whether the inverse of Cayley's form is a short series."),
            "num_cayley_neumann_terms": count(5, "Terms of the series."),
        }, tiny={"oft_block_size": 8},
    ),
    HFEntry(
        "boft", "BOFT", "BOFT", "reparametrized", "Turns the outputs of a weight by trained butterfly products.",
        "Liu et al. 2023, arXiv:2311.06243",
        {
            "boft_block_size": count(4, "Size of a block, which divides the inputs."),
            "boft_n_butterfly_factor": count(1, "Factors of a butterfly product."),
        },
        limits="The slowest of PEFT's own benchmark; PEFT tries to compile a CUDA extension for it.",
    ),
    HFEntry(
        "hra", "HRA", "HRA", "reparametrized", "Turns the inputs of a weight by a chain of trained reflections.",
        "Yuan et al. 2024, arXiv:2405.17484",
        {"r": count(8, "Reflections."),
        "apply_GS": switch(False, "Whether they are made orthogonal to each other.")},
        tiny={"r": 4},
    ),
    HFEntry(
        "psoft", "PSOFT", "PSOFT", "reparametrized", "Turns the main singular subspace of a weight.",
        "Hugging Face PEFT, PSOFT, openreview FSHrinMArK",
        {"r": count(32, "Size of the subspace."), "psoft_alpha": positive(32, _ALPHA),
        "psoft_dropout": share(0.0, _DROPOUT)},
        tiny={"r": 4, "psoft_alpha": 4}, changes_base=True,
        limits="Begins with a decomposition of every target and holds copies of their weights.",
    ),
    HFEntry(
        "frod", "FROD", "FRoD", "reparametrized",
        "Trains sparse changes in directions that all layers share, from a joint decomposition of their weights.",
        "Hugging Face PEFT, FRoD, doi:10.1609/aaai.v40i31.39813",
        {
            "sparse_rate": positive(0.01, "Share of the entries that is trained."),
            "projection_prng_key": whole(0, _SEED), "frod_dropout": share(0.0, _DROPOUT),
        }, {"progressbar": False}, {"sparse_rate": 0.2}, changes_base=True,
        limits="Begins with a decomposition of all targets together and holds copies; stores its frozen matrices.",
    ),
    HFEntry(
        "adamss", "ADAMSS", "AdaMSS", "reparametrized",
        "Low-rank changes in subspaces found by clustering the singular vectors of a weight.",
        "Hugging Face PEFT, AdaMSS",
        {
            "r": count(100, "Singular vectors that are clustered."), "num_subspaces": count(5, "Clusters."),
            "subspace_rank": count(1, "Rank of the change in each."),
        }, tiny={"r": 8, "num_subspaces": 2},
        limits="Needs scikit-learn; begins with a decomposition and a clustering of every target.",
    ),
)  # fmt: skip

_OTHERS = (
    HFEntry(
        "hf_ia3", "IA3", "IA3 (Hugging Face)", "additive, adapter",
        "IA3 as Hugging Face PEFT computes it, to check the one of this package against.",
        "Liu et al. 2022, arXiv:2205.05638", {},
    ),
    HFEntry(
        "road", "ROAD", "RoAd", "additive, adapter", "Turns and scales pairs of outputs.",
        "Liao and Monz 2024, arXiv:2409.00119",
        {
            "variant": choice("road_1", "road_2", "road_4",
            meaning="Values that a pair shares: one, two or four."),
            "group_size": count(64, "Outputs that are paired among each other; divides the outputs."),
        }, tiny={"group_size": 8},
        limits="group_size divides the outputs of every target.",
    ),
    HFEntry(
        "beft", "BEFT", "BEFT", "additive, adapter", "Adds trained biases to the value projections.",
        "Hugging Face PEFT, BEFT, arXiv:2509.15974", {}, targets=("value",), mergeable=False,
        limits="Cannot be merged where the base has no bias; `bitfit` can.",
    ),
    HFEntry(
        "poly", "POLY", "Poly", "additive, adapter",
        "LoRA mixed from several skills by a trained router; one task here.",
        "Ponti et al. 2022, arXiv:2202.13914",
        {"r": count(8, _RANK), "n_skills": count(4, "Skills."),
        "n_splits": count(1, "Parts of a weight with routers of their own.")},
        {"n_tasks": 1}, {"r": 4}, code="hf_schedules:Poly", mergeable=False, draws=True,
        limits="One task; draws for a whole pass, so that a step made in several passes draws other numbers.",
    ),
    HFEntry(
        "shira", "SHIRA", "SHiRA", "selective", "Trains a few entries of each weight, chosen at random.",
        "Bhardwaj et al. 2024, arXiv:2406.13175",
        {"r": count(32, "So many entries as LoRA of this rank has parameters."),
        "random_seed": whole(0, "Seed of their places.")},
        tiny={"r": 2},
        limits="Stores the places of its entries beside them.",
    ),
    HFEntry(
        "supertuning", "SUPERTUNING", "Super-Tuning", "selective", "Trains the largest entries of each weight.",
        "arXiv:2607.09287",
        {"sparsity": share(0.99, "Share of the entries that stays.")}, tiny={"sparsity": 0.9},
        limits="Stores the places of its entries beside them.",
    ),
    HFEntry(
        "osf", "OSF", "OSF", "selective", "Trains the small singular values of a weight and their vectors.",
        "Nayak et al. 2025, arXiv:2504.07097",
        {"effective_rank": optional("Largest singular values that stay; half of all where not given.")},
        changes_base=True,
        limits="Decomposes every target at the start and trains most of it: memory as for full fine-tuning.",
    ),
)  # fmt: skip

ENTRIES = (*LORA_FAMILY, *_REPARAMETRIZED, *_OTHERS)
