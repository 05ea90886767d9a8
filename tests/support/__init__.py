"""What tests share: sidecars, receivers, disks, users and files."""
