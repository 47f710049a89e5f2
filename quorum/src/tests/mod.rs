//! Stories of nodes and their disks.
