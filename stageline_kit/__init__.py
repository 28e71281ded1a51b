"""Consumers and workers for Stageline's topics, on aiokafka: what your own program needs beside the contracts."""

from stageline_kit.consumer import Batch, Consumer, Event, Gap
from stageline_kit.engine import PartitionListener, TaskEngine
from stageline_kit.feed import Change, JobFeed
from stageline_kit.hooks import Delivery, WorkerHooks
from stageline_kit.inbox import Inbox
from stageline_kit.outcomes import Failed, Outcome, Queued, Skipped, TryAgain
from stageline_kit.producer import Producer
from stageline_kit.task import Task
from stageline_kit.transport import NotSent, Transport
from stageline_kit.worker import Worker

__version__ = "0.3.0"
__all__ = [
    "Batch", "Change", "Consumer", "Delivery", "Event", "Failed", "Gap", "Inbox", "JobFeed", "NotSent", "Outcome",
    "PartitionListener", "Producer", "Queued", "Skipped", "Task", "TaskEngine", "Transport", "TryAgain", "Worker", "WorkerHooks",
]  # fmt: skip
