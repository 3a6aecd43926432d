"""All settings of a run, as the training scripts have them in common. Defaults are open-atac's."""

from __future__ import annotations

from typing import Container, List, Optional, TypeVar

from training.config.distillation import DistillationSettings
from training.config.fields import Group, Groups, Idle
from training.config.loss import LossSettings
from training.config.machine import MachineSettings
from training.config.optimizer import GradientSettings, OptimizerSettings
from training.config.rates import LayerRates
from training.config.run import RunSettings
from training.config.schedule import ScheduleSettings
from training.config.start import StartSettings
from training.config.taken import ImagesSettings
from training.config.telling import TellingSettings

__all__ = ['DataSettings', 'NetworkSettings', 'Settings']

Own = TypeVar('Own', bound='Settings')


class NetworkSettings(Group):
    """The network. Each script declares its own flags; all have these fields."""

    model: Optional[str]
    plugin: Optional[List[str]]  # files that register units or backbones
    option: str  # further arguments of the network
    summary: bool


class DataSettings(Group):
    """The data. Each script declares its own flags; all have these fields."""

    batch_size: int  # images per device and step
    num_data_workers: int


class Settings(Groups):
    """All settings of a run. Each script declares which groups have flags; all have these fields."""

    network: NetworkSettings
    data: DataSettings
    images: ImagesSettings
    schedule: ScheduleSettings
    rates: LayerRates
    optimizer: OptimizerSettings
    gradient: GradientSettings
    loss: LossSettings
    distillation: DistillationSettings
    start: StartSettings
    machine: MachineSettings
    run: RunSettings
    telling: TellingSettings

    def idle(self) -> Idle:
        """Yield fields that have no effect beside those of other groups, and what they are for."""
        yield from ()

    def settled(self: Own, stated: Container[str]) -> Own:
        """Return these settings with what one field says for another; `stated` are the fields that are not defaults."""
        return self
