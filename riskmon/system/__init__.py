"""What riskmon needs of the operating system: clocks, daemon threads, file modes, Unix sockets."""
