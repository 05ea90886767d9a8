"""The production sidecar under simulated time, disk and receivers, through random faults."""
