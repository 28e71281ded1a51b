"""Consumers and workers for Stageline's topics, on aiokafka: what your own program needs beside the contracts."""

from contracts import FileRef
from stageline_kit.connection import kafka_options
from stageline_kit.consumer import Batch, Consumer, Event, Gap
from stageline_kit.engine import TaskEngine
from stageline_kit.feed import Change, JobFeed
from stageline_kit.hooks import Delivery, WorkerHooks
from stageline_kit.inbox import Inbox
from stageline_kit.outcomes import Failed, Outcome, Queued, Skipped, TryAgain
from stageline_kit.partition_listener import PartitionListener
from stageline_kit.producer import Producer
from stageline_kit.task import Task
from stageline_kit.transport import NotSent, RecordRefused, Transport
from stageline_kit.version import VERSION
from stageline_kit.worker import Worker, WorkerStuck

__version__ = VERSION
__all__ = [
    "Batch", "Change", "Consumer", "Delivery", "Event", "Failed", "FileRef", "Gap", "Inbox", "JobFeed", "NotSent", "Outcome",
    "PartitionListener", "Producer", "Queued", "RecordRefused", "Skipped", "Task", "TaskEngine", "Transport", "TryAgain", "Worker", "WorkerHooks",
    "WorkerStuck", "kafka_options",
]  # fmt: skip
