//! The metadata quorum of Millstream: openraft with a log store over the same disk as the log.
