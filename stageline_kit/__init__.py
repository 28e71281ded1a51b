"""Consumers and workers for Stageline's topics, on aiokafka: what you need beside the contracts to write your own program."""

from stageline_kit.consumer import Batch, Consumer, Event, Gap
from stageline_kit.feed import Change, JobFeed
from stageline_kit.inbox import Inbox
from stageline_kit.outcomes import Failed, Queued, Skipped, TryAgain
from stageline_kit.producer import Producer
from stageline_kit.task import Task
from stageline_kit.worker import Worker

__version__ = "0.3.0"
__all__ = [
    "Batch", "Change", "Consumer", "Event", "Failed", "Gap", "Inbox", "JobFeed", "Producer", "Queued", "Skipped", "Task", "TryAgain",
    "Worker",
]  # fmt: skip
