"""The runtime of every service: Kafka, database, HTTP, telemetry and the life of a process."""
