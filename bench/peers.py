"""The peer: Hugging Face Trainer with PEFT as it comes, padded, stepped one update at a time beside ours.

Trainer runs in a thread of its own that stops after each update, so that the two take turns in one process on
one core and a slow moment of the machine hits both.
"""

import tempfile
import threading
from collections.abc import Sequence
from typing import Any

import peft
import torch
from transformers import PreTrainedModel, Trainer, TrainerCallback, TrainingArguments

from peftbench.efficiency.profile import Peak
from peftbench.engine.pack import Sample

PAD_TO = 8


def peft_config(method: str, dropout: float) -> Any:
    """Section 4 of the paper in PEFT's words."""
    common = {"task_type": "CAUSAL_LM"}
    targets = ["k_proj", "v_proj", "down_proj"]
    configs = {
        "lora": lambda: peft.LoraConfig(
            r=16, lora_alpha=16, lora_dropout=dropout, target_modules=targets, **common
        ),
        "ia3": lambda: peft.IA3Config(target_modules=targets, feedforward_modules=["down_proj"], **common),
        "ln_tuning": lambda: peft.LNTuningConfig(
            target_modules=["input_layernorm", "post_attention_layernorm", "norm"], **common
        ),
        "prompt_tuning": lambda: peft.PromptTuningConfig(num_virtual_tokens=100, **common),
        "p_tuning": lambda: peft.PromptEncoderConfig(
            num_virtual_tokens=100, encoder_reparameterization_type="LSTM", encoder_hidden_size=768, **common
        ),
        "prefix_tuning": lambda: peft.PrefixTuningConfig(
            num_virtual_tokens=32, prefix_projection=True, encoder_hidden_size=512, **common
        ),
    }
    return configs[method]()


def padded(batch: Sequence[Sample], device: str = "cpu") -> dict[str, torch.Tensor]:
    """A batch as Trainer gets it: padded on the right to a multiple of 8, labels on the answer alone."""
    rows = [[*sample.prompt, *sample.answer] for sample in batch]
    longest = -(-max(len(row) for row in rows) // PAD_TO) * PAD_TO
    ids = torch.tensor([row + [0] * (longest - len(row)) for row in rows], device=device)
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows], device=device)
    labels = [
        [-100] * len(sample.prompt) + list(sample.answer) + [-100] * (longest - len(row))
        for sample, row in zip(batch, rows, strict=True)
    ]
    return {"input_ids": ids, "attention_mask": mask, "labels": torch.tensor(labels, device=device)}


class TrainerPeer:
    """Trainer with PEFT over `batches`, one update for each call of `step`."""

    def __init__(
        self,
        model: PreTrainedModel,
        method: str,
        batches: Sequence[Sequence[Sample]],
        *,
        dropout: float = 0.0,
        checkpointing: bool = False,
        bf16: bool = False,
    ) -> None:
        self.model = peft.get_peft_model(model, peft_config(method, dropout))
        device = self._device = next(model.parameters()).device.type
        arguments = TrainingArguments(
            output_dir=tempfile.mkdtemp(prefix="peftbench-bench-"),
            max_steps=len(batches),
            per_device_train_batch_size=1,
            learning_rate=5e-5,
            warmup_steps=max(1, len(batches) // 10),
            lr_scheduler_type="cosine",
            weight_decay=1e-5,
            max_grad_norm=1.0,
            gradient_checkpointing=checkpointing,
            bf16=bf16,
            save_strategy="no",
            report_to=[],
            use_cpu=device == "cpu",
            disable_tqdm=True,
            logging_steps=5,
            remove_unused_columns=False,
            dataloader_pin_memory=False,
            train_sampling_strategy="sequential",  # the batches come in our order
        )
        self._go, self._done = threading.Semaphore(0), threading.Semaphore(0)
        self._stop = False
        self._peak: Peak | None = None
        self.peak_bytes = 0
        self._failure: BaseException | None = None
        peer = self

        class Turns(TrainerCallback):
            """Hands the turn back after each update."""

            def on_step_begin(self, _args: Any, _state: Any, control: Any, **_: Any) -> Any:
                if peer._peak is not None:
                    peer._peak.__enter__()
                return control

            def on_step_end(self, _args: Any, _state: Any, control: Any, **_: Any) -> Any:
                if peer._peak is not None:
                    peer._peak.__exit__(None, None, None)
                    peer.peak_bytes, peer._peak = peer._peak.bytes, None
                peer._done.release()
                peer._go.acquire()
                control.should_training_stop = peer._stop
                return control

        self.trainer = Trainer(
            model=self.model,
            args=arguments,
            train_dataset=[list(batch) for batch in batches],  # one "row" is a whole batch of samples
            data_collator=lambda rows: padded(rows[0]),
            callbacks=[Turns()],
        )
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def step(self) -> None:
        """One update, logging and data loading included."""
        self._go.release()
        self._done.acquire()
        if self._failure is not None:
            raise self._failure

    def measure_peak(self) -> int:
        """Peak memory of one more update, in bytes beyond what was in use before it."""
        self._peak = Peak(self._device)
        self.step()
        return self.peak_bytes

    def close(self) -> None:
        """Let the training end."""
        self._stop = True
        self._go.release()
        self._thread.join()

    def _run(self) -> None:
        self._go.acquire()
        try:
            self.trainer.train()
        except BaseException as error:
            self._failure = error
        self._done.release()
