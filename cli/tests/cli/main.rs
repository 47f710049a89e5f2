//! The command line against a broker in a process of its own: every command as a user gives it.

mod broker;
mod plugins_and_views;
mod support;
mod topics_and_records;
