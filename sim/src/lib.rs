//! A whole cluster in one thread: the real decisions, log and quorum under a seeded clock, network and disk.
