"""Trains a network; every run can be killed at any moment and goes on as if it had not been.

What a step does depends on the checkpoint before it and its number alone: data order and
augmentation come from the seed and the position, dropout's generator is in the checkpoint, and
the log is cut back to the checkpoint on resuming. Validation writes the candidate weights to a
file and runs them through the node's own pipeline.

The run's folder:

    config.json             what was asked for, overrides included
    checkpoint.safetensors  to resume from
    log.jsonl               losses and validations, one JSON object per line
    card.yaml, model-….safetensors   the best model so far: the folder is a `model:=` of the node
    report/                 of the best model on the validation images, once finished

B batch, H/W crop.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

from seg_perception.backends import select_device
from seg_perception.errors import ConfigurationError, SegPerceptionError
from seg_perception.models.card import ModelCard, WeightsSource
from seg_perception.models.card_writing import write_card
from seg_perception.pipeline import Segmenter
from seg_perception.training import checkpoint as files
from seg_perception.training.augment import Augmenter
from seg_perception.training.config import TrainConfig
from seg_perception.training.datasets import (
    dataset_configs,
    open_dataset,
)
from seg_perception.training.evaluation import calibrate, evaluate
from seg_perception.training.initial_weights import make_start
from seg_perception.training.losses import build_loss, needs_class_weights
from seg_perception.training.optimization import (
    MovingAverage,
    autocast_dtype,
    build_optimizer,
    freeze_norms,
)
from seg_perception.training.run_identity import (
    Resume,
    check_datasets,
    check_resume,
    differences,
    identity,
)
from seg_perception.training.run_log import RunLog
from seg_perception.training.samples import TrainingSamples, batches
from seg_perception.training.schedules import build_schedule
from seg_perception.training.weighting import ClassFrequencies
from seg_perception.whole_file import write_whole

CHECKPOINT_FILE = 'checkpoint.safetensors'
CANDIDATE_FILE = 'candidate.safetensors'
LOG_EVERY_STEPS = 10
AUX_LOSS_WEIGHT = 0.4
"""Of the auxiliary classifier that ResNet and MobileNetV3 networks can have (H. Zhao et al.,
arXiv:1612.01105)."""


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """How a run ended.

    Attributes:
        run_dir: its folder.
        card: of the best model, its temperature fitted.
        best_mean_iou: of the validations, 0 to 1.
        best_step: when that was.
        num_steps: steps taken in all.
        is_stopped_early: whether patience ran out.
        seconds: of this process; a resumed run took longer.
    """

    run_dir: Path
    card: ModelCard
    best_mean_iou: float
    best_step: int
    num_steps: int
    is_stopped_early: bool
    seconds: float


@dataclass(slots=True)
class _Progress:
    """What changes from step to step and is not a tensor; JSON holds it."""

    step: int = 0
    best_mean_iou: float = -1.0
    best_step: int = 0
    best_file: str = ''
    validations_since_best: int = 0
    is_finished: bool = False
    is_stopped_early: bool = False
    pending_losses: list[float] = dataclasses.field(default_factory=list)


def train(
    config: TrainConfig,
    run_dir: str | Path,
    *,
    device: str = 'auto',
    resume: Resume = 'auto',
    log: RunLog | None = None,
) -> TrainingResult:
    """Trains, or goes on training, until the end of the configuration.

    Seeds torch's global generators.

    Args:
        config: what to train.
        run_dir: the run's folder; made where it is missing.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        resume: ``auto`` goes on where the folder has a checkpoint, ``must`` fails where it has
            none, ``never`` where it has one.
        log: told what happens; a silent one of the run's folder where None.

    Raises:
        SegPerceptionError: data, weights, device or configuration cannot be used, the folder
            belongs to another run, or the loss is no number any more.
    """
    run = _Run(config, Path(run_dir), device, resume, log)
    try:
        return run.to_the_end()
    finally:
        run.log.close()


class _Run:
    """One process's part of a training run."""

    def __init__(
        self,
        config: TrainConfig,
        run_dir: Path,
        device: str,
        resume: Resume,
        log: RunLog | None,
    ) -> None:
        self.start_time = time.monotonic()
        self.config, self.run_dir = config, run_dir
        settings = config.training
        self.device = select_device(device)
        self.dtype = autocast_dtype(self.device, settings.precision)
        if settings.num_threads:
            torch.set_num_threads(settings.num_threads)
        self.checkpoint_path = run_dir / CHECKPOINT_FILE
        has_checkpoint = self.checkpoint_path.is_file()
        check_resume(resume, has_checkpoint, run_dir)
        parts = dataset_configs(config.document)
        self.train_set = open_dataset(parts['train'], base_dir=config.base_dir)
        self.val_set = open_dataset(parts['val'], base_dir=config.base_dir)
        check_datasets(self.train_set, self.val_set)
        try:
            run_dir.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigurationError(f'{run_dir}: cannot be made: {error.strerror}') from error
        self.log = log or RunLog(run_dir)
        torch.manual_seed(settings.seed)
        self.start = make_start(config, self.train_set.classes)
        self.card = self.start.card
        self.network = self.start.network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        images_per_step = settings.batch_size * settings.accumulate
        self.steps_per_epoch = -(-len(self.train_set) // images_per_step)
        self.num_steps = self.steps_per_epoch * settings.epochs
        self.optimizer = build_optimizer(config.optimizer, self.network, self.start.trained_names)
        self.scheduler = build_schedule(config.schedule, self.optimizer, self.num_steps)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.dtype == torch.float16)
        self.average = (
            MovingAverage(self.network, settings.ema_decay) if settings.ema_decay else None
        )
        self.progress = _Progress()
        self._steps_timed = 0
        if has_checkpoint:
            self._restore()
        self.loss = self._build_loss()

    def to_the_end(self) -> TrainingResult:
        """Runs all steps that are left."""
        self._say_what_starts()
        if not self.progress.is_finished:
            if self.progress.step == 0:
                self._write_config()
            self._take_steps()
        best = self._finish()
        return TrainingResult(
            self.run_dir,
            best,
            self.progress.best_mean_iou,
            self.progress.best_step,
            self.progress.step,
            self.progress.is_stopped_early,
            time.monotonic() - self.start_time,
        )

    def _take_steps(self) -> None:
        settings, progress = self.config.training, self.progress
        samples = TrainingSamples(
            self.train_set,
            Augmenter(
                self.config.augmentation, self.card.input, self.train_set.ignore_id, settings.seed
            ),
            self.loss.border_weighting,
            settings.seed,
        )
        loaded = batches(
            samples,
            first=progress.step * settings.batch_size * settings.accumulate,
            num_batches=(self.num_steps - progress.step) * settings.accumulate,
            batch_size=settings.batch_size,
            num_workers=settings.num_workers,
            is_pinned=self.device.type == 'cuda',
        )
        losses: list[torch.Tensor | float] = list(progress.pending_losses)
        self.network.train()
        if settings.freeze_norm:
            freeze_norms(self.network)
        with self.log.bar(self.num_steps, progress.step) as advance:
            while progress.step < self.num_steps and not progress.is_finished:
                losses.append(self._take_step(loaded))
                progress.step += 1
                if progress.step % LOG_EVERY_STEPS == 0 or progress.step == self.num_steps:
                    self._log_losses(losses)
                    losses.clear()
                advance(1)
                is_last = progress.step == self.num_steps
                is_epoch = progress.step % (self.steps_per_epoch * settings.validate_every) == 0
                if is_epoch or is_last:
                    self._validate()
                if is_epoch or is_last or progress.step % settings.checkpoint_every_steps == 0:
                    progress.pending_losses = [float(loss) for loss in losses]
                    self._save()

    def _take_step(self, loaded: Any) -> torch.Tensor:
        """One optimizer step; returns its loss on the device."""
        config = self.config
        num_parts = config.training.accumulate
        total = torch.zeros((), device=self.device)
        for _ in range(num_parts):
            x_B3HW, labels_BHW, weights_BHW = (
                t.to(self.device, non_blocking=True) for t in next(loaded)
            )
            extras = {'weights_BYX': weights_BHW} if weights_BHW.numel() else {}
            x_B3HW = x_B3HW.contiguous(memory_format=torch.channels_last)
            with torch.autocast(
                self.device.type, dtype=self.dtype, enabled=self.dtype is not None
            ):
                loss = self._loss_of(x_B3HW, labels_BHW, extras) / num_parts
            self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
        self.scaler.unscale_(self.optimizer)
        if config.optimizer.clip_norm:
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), config.optimizer.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        self.scheduler.step()
        if self.average is not None:
            self.average.update(self.network, self.progress.step + 1)
        return total

    def _loss_of(
        self,
        x_B3HW: torch.Tensor,
        labels_BHW: torch.Tensor,
        extras: Mapping[str, torch.Tensor],
    ) -> torch.Tensor:
        if getattr(self.network, 'aux_classifier', None) is None:
            logits = self._upsampled(self.network(x_B3HW), labels_BHW)
            plain: torch.Tensor = self.loss(logits, labels_BHW, extras)
            return plain
        logits, aux_logits = self.network.forward_with_aux(x_B3HW)
        main: torch.Tensor = self.loss(self._upsampled(logits, labels_BHW), labels_BHW, extras)
        aux: torch.Tensor = self.loss(self._upsampled(aux_logits, labels_BHW), labels_BHW, extras)
        return main + AUX_LOSS_WEIGHT * aux

    def _upsampled(self, logits_BCHW: torch.Tensor, like_BHW: torch.Tensor) -> torch.Tensor:
        """As the node upsamples them, so that the loss is of what the node decides on."""
        return F.interpolate(
            logits_BCHW.float(),
            size=like_BHW.shape[-2:],
            mode='bilinear',
            align_corners=self.card.output.align_corners,
        )

    def _log_losses(self, losses: list[torch.Tensor | float]) -> None:
        mean = sum(float(loss) for loss in losses) / len(losses)
        # fp16 scaling meets infinite gradients on purpose, but the loss itself stays finite.
        if not torch.isfinite(torch.tensor(mean)):
            raise SegPerceptionError(
                f'step {self.progress.step}: expected a finite loss, got {mean}; lower '
                f'optimizer.lr, set optimizer.clip_norm, or use training.precision fp32'
            )
        rates = [group['lr'] for group in self.optimizer.param_groups]
        self.log.write(
            {'kind': 'loss', 'step': self.progress.step, 'loss': mean, 'lr': max(rates)}
        )

    def _validate(self) -> None:
        """Measures the weights of now through the node's pipeline, and keeps them if best."""
        progress = self.progress
        state = self.average.state if self.average else self.network.state_dict()
        candidate = self.run_dir / CANDIDATE_FILE
        files.save_tensors(candidate, state)
        card = dataclasses.replace(self.card, weights=WeightsSource(str(candidate.absolute())))
        random_state = files.random_state()
        with self._segmenter(card) as segmenter:
            evaluation = evaluate(segmenter, self.val_set, is_quick=True)
        files.load_random_state(random_state)
        mean_iou = evaluation.mean_iou
        is_best = mean_iou > progress.best_mean_iou
        if is_best:
            progress.best_file = f'model-{progress.step:07d}.safetensors'
            kept = self.run_dir / progress.best_file
            candidate.replace(kept)
            progress.best_mean_iou, progress.best_step = mean_iou, progress.step
            progress.validations_since_best = 0
            write_card(self._best_card(), kept, 'safetensors')
        else:
            candidate.unlink(missing_ok=True)
            progress.validations_since_best += 1
        self.log.write(
            {
                'kind': 'validation',
                'step': progress.step,
                'mean_iou': mean_iou,
                'pixel_accuracy': float(evaluation.metrics.pixel_accuracy),
                'is_best': is_best,
            }
        )
        patience = self.config.training.patience
        if patience and progress.validations_since_best >= patience:
            progress.is_finished = progress.is_stopped_early = True
        if progress.step == self.num_steps:
            progress.is_finished = True

    def _segmenter(self, card: ModelCard) -> Segmenter:
        return Segmenter(
            card, device=str(self.device), num_threads=self.config.training.num_threads
        )

    def _best_card(self) -> ModelCard:
        progress = self.progress
        measured = {'val_mean_iou': round(progress.best_mean_iou, 4), 'step': progress.best_step}
        return dataclasses.replace(self.card, measurements=measured)

    def _finish(self) -> ModelCard:
        """Fits the temperature of the best model into its card; the same on every call."""
        kept = self.run_dir / self.progress.best_file
        card = write_card(self._best_card(), kept, 'safetensors')
        with self._segmenter(card) as segmenter:
            temperature = calibrate(segmenter, self.val_set)
        output = dataclasses.replace(card.output, temperature=round(temperature, 4))
        return write_card(dataclasses.replace(card, output=output), kept, 'safetensors')

    def _build_loss(self) -> Any:
        weights = None
        classes, ignore_id = self.train_set.classes, self.train_set.ignore_id
        if needs_class_weights(self.config.loss):
            self.log.say('counting the classes of the training images')
            frequencies = ClassFrequencies(len(classes), ignore_id)
            for index in range(len(self.train_set)):
                frequencies.update(self.train_set[index].labels_YX)
            weights = frequencies.median_frequency_weights()
        return build_loss(
            self.config.loss,
            num_classes=len(classes),
            ignore_id=ignore_id,
            class_weights=weights,
        )

    def _save(self) -> None:
        tensors, plain = files.optimizer_state(self.optimizer)
        groups: dict[str, Mapping[str, torch.Tensor]] = {
            'network': self.network.state_dict(),
            'optimizer': tensors,
            'random': files.random_state(),
        }
        if self.average is not None:
            groups['average'] = self.average.state
        state = {
            'identity': identity(self.config, self.train_set, self.val_set, self.device.type),
            'progress': dataclasses.asdict(self.progress),
            'optimizer': plain,
            'scheduler': self.scheduler.state_dict(),
            'scaler': self.scaler.state_dict(),
        }
        files.save_checkpoint(self.checkpoint_path, groups, state)
        # Only now does no checkpoint name the model that was best before.
        for path in self.run_dir.glob('model-*.safetensors'):
            if path.name != self.progress.best_file:
                path.unlink()

    def _restore(self) -> None:
        groups, state = files.load_checkpoint(self.checkpoint_path)
        now = identity(self.config, self.train_set, self.val_set, self.device.type)
        if different := differences(state['identity'], now):
            raise ConfigurationError(
                f'{self.run_dir}: expected the configuration that its run began with, got another '
                f'({", ".join(different)}); undo the change, or give another --out'
            )
        self.progress = _Progress(**state['progress'])
        self.network.load_state_dict(groups['network'])
        files.load_optimizer_state(self.optimizer, groups['optimizer'], state['optimizer'])
        self.scheduler.load_state_dict(state['scheduler'])
        self.scaler.load_state_dict(state['scaler'])
        if self.average is not None:
            for name, tensor in groups['average'].items():
                self.average.state[name].copy_(tensor)
        files.load_random_state(groups['random'])
        self.log.cut_back(self.progress.step)

    def _write_config(self) -> None:
        text = json.dumps(
            {**self.config.document, 'base_dir': str(self.config.base_dir)}, indent=1
        )
        write_whole(self.run_dir / 'config.json', text.encode('utf-8'))

    def _say_what_starts(self) -> None:
        if self.progress.is_finished:
            self.log.say(f'{self.run_dir}: was finished at step {self.progress.step}')
        elif self.progress.step:
            self.log.say(f'resuming at step {self.progress.step} of {self.num_steps}')
        else:
            for message in self.start.messages:
                self.log.say(message)
        precision = 'fp32' if self.dtype is None else str(self.dtype).removeprefix('torch.')
        self.log.say(
            f'{len(self.train_set)} training and {len(self.val_set)} validation images, '
            f'{len(self.train_set.classes)} classes, {self.num_steps} steps, {precision} on '
            f'{self.device}'
        )
