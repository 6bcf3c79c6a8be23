"""The keys of LLaMA-Factory's and PEFT-Factory's files that need no thought: what is left out, and what must hold.

What is converted stands in `training`, `evaluation` and `methods`. Defaults are those of
LLaMA-Factory and of the trainer below it, because a key that is not given means its default.
"""

LEFT_OUT: dict[str, tuple[str, ...]] = {
    "runs have a folder of their own by what they are; `output` is the folder of all": (
        "output_dir", "overwrite_output_dir", "run_name", "logging_dir", "adapter_name", "project",
    ),
    "a checkpoint is written at each validation and removed when the run is finished": (
        "save_steps", "save_strategy", "save_total_limit", "save_only_model", "save_safetensors",
        "save_on_each_node", "restore_callback_states_from_checkpoint",
    ),
    "what is logged is fixed: one line of `curve.jsonl` for each validation": (
        "logging_steps", "logging_strategy", "logging_first_step", "log_level", "plot_loss", "disable_tqdm",
        "include_num_input_tokens_seen", "include_effective_tokens_per_second", "include_tokens_per_second",
        "print_param_status", "eval_accumulation_steps", "batch_eval_metrics", "compute_accuracy",
        "skip_memory_metrics", "logging_nan_inf_filter",
    ),
    "it says how rows are read and kept, which does not change them": (
        "overwrite_cache", "preprocessing_num_workers", "preprocessing_batch_size", "dataloader_num_workers",
        "dataloader_pin_memory", "dataloader_prefetch_factor", "dataloader_persistent_workers", "tokenized_path",
        "cache_dir", "data_shared_file_system", "dataset_dir", "media_dir", "remove_unused_columns",
        "ignore_pad_token_for_loss", "mix_strategy", "tool_format", "use_fast_tokenizer", "split_special_tokens",
        "buffer_size", "mask_history",
    ),
    "it says how the pass is computed, not what comes out of it": (
        "flash_attn", "enable_liger_kernel", "use_unsloth", "use_unsloth_gc", "use_cache", "low_cpu_mem_usage",
        "ddp_timeout", "ddp_find_unused_parameters", "ddp_backend", "fsdp", "fsdp_config", "deepspeed",
        "torch_compile", "torch_compile_backend", "torch_compile_mode", "tf32", "use_reentrant_gc",
        "offload_folder",
        "gradient_checkpointing_kwargs", "accelerator_config", "auto_find_batch_size", "full_determinism",
        "device_map", "upcast_lmhead_output", "upcast_layernorm", "use_cpu", "no_cuda", "local_rank",
        "infer_backend", "infer_dtype", "use_kv_cache", "bf16_full_eval", "fp16_full_eval",
    ),
    "nothing is sent anywhere": (
        "hub_model_id", "hub_strategy", "hub_token", "hub_private_repo", "push_to_hub_organization",
        "push_to_hub_model_id", "push_to_hub_token", "hf_hub_token", "ms_hub_token", "om_hub_token", "export_dir",
        "export_hub_model_id", "swanlab_api_key", "swanlab_project", "swanlab_mode", "swanlab_run_name",
        "swanlab_workspace", "swanlab_logdir", "trackio_space_id",
    ),
    "scores and PSCP are computed from what was measured (`peftbench score`, `peftbench pscp`)": (
        "compute_classification_metrics", "compute_pscp", "pscp_memory", "pscp_cp", "pscp_cf", "pscp_cm",
        "pscp_bp", "pscp_bf", "pscp_bm",
    ),
    "answers are greedy": ("temperature", "top_p", "top_k", "length_penalty", "early_stopping"),
    "answers do not depend on it; `evaluation.batch_size` is how many prompts go through at a time": (
        "per_device_eval_batch_size",
    ),
    "other stages than supervised fine-tuning read it": (
        "ref_model", "ref_model_adapters", "reward_model_adapters", "pref_loss", "pref_beta", "pref_ftx",
        "ppo_epochs",
        "ppo_target", "ppo_buffer_size", "dpo_label_smoothing", "kto_chosen_weight", "kto_rejected_weight",
        "simpo_gamma",
    ),
    "without `quantization_bit` it does nothing": (
        "quantization_method", "quantization_type", "double_quantization", "quantization_device_map",
    ),
    "the command says what is done": ("do_predict", "do_eval", "predict_with_generate", "eval_on_start"),
}  # fmt: skip
"""Why a key is left out, and the keys: nothing of it changes which numbers come out."""

MUST_BE: dict[str, tuple[tuple[object, ...], object, str]] = {
    "lr_scheduler_type": (("cosine",), "linear", "the learning rate falls along a cosine"),
    "optim": (
        ("adamw_torch", "adamw_torch_fused", "adamw_hf"), "adamw_torch", "the optimizer is AdamW in float32",
    ),
    "optim_args": ((None, ""), None, "the optimizer has no further settings"),
    "lr_scheduler_kwargs": ((None, {}), None, "the schedule has no further settings"),
    "adam_beta1": ((0.9,), 0.9, "AdamW has beta1 0.9"),
    "adam_beta2": ((0.999,), 0.999, "AdamW has beta2 0.999"),
    "adam_epsilon": ((1e-8,), 1e-8, "AdamW has epsilon 1e-8"),
    "label_smoothing_factor": ((0,), 0, "labels are not smoothed"),
    "neftune_noise_alpha": ((None, 0), None, "no noise is added to embeddings"),
    "use_dft_loss": ((False,), False, "the loss is the cross entropy"),
    "use_galore": ((False,), False, "the optimizer is AdamW"),
    "use_apollo": ((False,), False, "the optimizer is AdamW"),
    "use_badam": ((False,), False, "the optimizer is AdamW"),
    "use_adam_mini": ((False,), False, "the optimizer is AdamW"),
    "use_muon": ((False,), False, "the optimizer is AdamW"),
    "use_llama_pro": ((False,), False, "no blocks are added to a model"),
    "shift_attn": ((False,), False, "attention sees all tokens"),
    "mixture_of_depths": ((None, False), None, "every token goes through every layer"),
    "rope_scaling": ((None,), None, "positions are those of the model"),
    "resize_vocab": ((False,), False, "the vocabulary is that of the model"),
    "new_special_tokens": ((None,), None, "the vocabulary is that of the model"),
    "add_tokens": ((None,), None, "the vocabulary is that of the model"),
    "additional_target": ((None,), None, "nothing is trained but the method"),
    "train_on_prompt": ((False,), False, "only the answer is learned"),
    "packing": ((False, None), None, "each sample sees itself alone, and a batch has so many samples"),
    "neat_packing": ((False,), False, "a batch has so many samples, however they are packed"),
    "group_by_length": ((False,), False, "rows come in random order"),
    "disable_shuffling": ((False,), False, "rows come in random order"),
    "streaming": ((False,), False, "rows come in random order"),
    "interleave_probs": ((None,), None, "a run has one dataset"),
    "dataloader_drop_last": ((False,), False, "the last rows of an epoch are used"),
    "default_system": ((None, ""), None, "there is no system message"),
    "metric_for_best_model": (
        ("loss", "eval_loss", None), None, "the weights of the lowest validation loss are kept",
    ),
    "greater_is_better": ((False, None), None, "the weights of the lowest validation loss are kept"),
    "early_stopping_steps": ((None,), None, "training goes on to the end"),
    "num_beams": ((1, None), 1, "answers are greedy"),
    "eval_num_beams": ((1, None), None, "answers are greedy"),
    "repetition_penalty": ((1, None), 1, "answers are greedy, without a penalty"),
    "use_modelscope_hub": ((False,), False, "models come from a folder or the Hugging Face hub"),
    "use_openmind_hub": ((False,), False, "models come from a folder or the Hugging Face hub"),
    "train_from_scratch": ((False,), False, "the base has the weights of the model"),
    "freeze_vision_tower": ((True,), True, "models have text alone"),
}  # fmt: skip
"""Key to the values that mean the same here, its default, and what holds here; others change the result."""

METHOD_KEYS: dict[str, tuple[str, ...]] = {
    "lora": (
        "lora_rank", "lora_alpha", "lora_dropout", "lora_target", "use_rslora", "use_dora", "pissa_init",
        "pissa_iter", "pissa_convert", "loraplus_lr_ratio", "loraplus_lr_embedding", "create_new_adapter",
    ),
    "oft": ("oft_rank", "oft_block_size", "oft_target", "module_dropout"),
    "freeze": ("freeze_trainable_layers", "freeze_trainable_modules", "freeze_extra_modules"),
    "full": (),
    "ia3": ("target_modules", "feedforward_modules", "init_ia3_weights", "exclude_modules", "fan_in_fan_out"),
    "lntuning": ("target_modules", "exclude_modules"),
    "prompt-tuning": (
        "num_virtual_tokens", "prompt_tuning_init", "prompt_tuning_init_text", "tokenizer_name_or_path",
    ),
    "prefix-tuning": ("num_virtual_tokens", "prefix_projection", "encoder_hidden_size"),
    "p-tuning": (
        "num_virtual_tokens", "encoder_reparameterization_type", "encoder_hidden_size", "encoder_num_layers",
        "encoder_dropout",
    ),
    "bitfit": ("target_modules",),
    "svft": ("target_modules", "rank", "off_diag", "pattern", "fill_orthonormal"),
    "bn-adapter": ("mh_adapter", "output_adapter", "reduction_factor", "non_linearity", "scaling"),
    "seq-bn-adapter": ("mh_adapter", "output_adapter", "reduction_factor", "non_linearity", "scaling"),
    "par-adapter": ("mh_adapter", "output_adapter", "reduction_factor", "non_linearity", "scaling"),
    "mtp": ("num_virtual_tokens", "num_tasks", "num_ranks"),
}  # fmt: skip
"""What `finetuning_type` can be, and the keys that each reads; a key of another one is without effect there."""

HF_KINDS = ("ia3", "lntuning", "prompt-tuning", "prefix-tuning", "p-tuning")
"""Kinds that Hugging Face PEFT computes from a configuration of its own."""

DEFECTS = {
    "predict_with_generate": (
        "answering needs jieba, nltk and rouge-chinese, which are not installed with it, and is scored with a "
        "tokenizer for Chinese, whatever the dataset"
    ),
    "compute_pscp": (
        "PSCP takes all FLOPs in place of the difference to the base and scores from 0 to 1, and what is "
        "missing for it is found before the answers are saved, which are lost then"
    ),
    "compute_classification_metrics": (
        "its macro-F1 minds case and counts an unknown class of its own, and is not the F1 of the script that "
        "scores afterwards"
    ),
}
"""Switches that are left out here, and what goes wrong there with each."""


def scored_on_training(name: str) -> str:
    """What is said of an evaluation on a training split."""
    return (
        f"eval_dataset {name} is the training split there ({name}_eval is the test split), so that the rows it "
        "was trained on are scored; here it is always the test split"
    )


TASK_KEYS = ("task_type", "peft_type", "inference_mode", "num_transformer_submodules")
"""Keys of Hugging Face PEFT's configurations that a user has to repeat there."""

OTHER_KEYS = (
    "seed", "data_seed", "model_name_or_path", "model_revision", "trust_remote_code", "adapter_name_or_path",
    "adapter_folder", "stage", "do_train", "finetuning_type", "peft_method", "dataset", "eval_dataset", "template",
    "enable_thinking", "cutoff_len", "max_samples", "val_size", "learning_rate", "num_train_epochs", "max_steps",
    "per_device_train_batch_size", "gradient_accumulation_steps", "weight_decay", "max_grad_norm", "warmup_ratio",
    "warmup_steps", "bf16", "fp16", "pure_bf16", "report_to", "use_swanlab", "push_to_hub",
    "load_best_model_at_end", "eval_strategy", "evaluation_strategy", "eval_steps", "resume_from_checkpoint",
    "max_new_tokens", "max_length",
    "do_sample", "gradient_checkpointing", "disable_gradient_checkpointing",
)  # fmt: skip
"""Keys that are converted one by one."""


TEMPLATES = {
    "llama3": "llama-3", "mistral": "mistral", "mistral_small": "mistral", "qwen": "qwen", "qwen3": "qwen3",
    "qwen3_nothink": "qwen3", "gemma": "gemma", "gemma2": "gemma-2", "gemma3": "gemma-3", "phi": "phi-3",
}  # fmt: skip
"""Template to what the names of the models that it belongs to hold."""
WITHOUT_CHAT = ("default", "empty", "alpaca", "vicuna", "fewshot")
TRAINING_KEYS = (
    "learning_rate", "num_train_epochs", "weight_decay", "lr_scheduler_type", "warmup_ratio", "warmup_steps",
    "optim", "per_device_train_batch_size", "gradient_accumulation_steps", "max_steps", "max_grad_norm",
    "packing", "val_size",
    "eval_strategy", "evaluation_strategy", "eval_steps", "load_best_model_at_end", "resume_from_checkpoint",
    "gradient_checkpointing", "disable_gradient_checkpointing", "lr_scheduler_kwargs", "metric_for_best_model",
    "greater_is_better", "group_by_length", "data_seed",
)  # fmt: skip
"""Keys that only training reads, and that stand in evaluation files all the same."""


def known_keys() -> set[str]:
    """Every key that something is known of."""
    keys = {*MUST_BE, *TASK_KEYS, *OTHER_KEYS}
    return keys.union(*LEFT_OUT.values(), *METHOD_KEYS.values())
