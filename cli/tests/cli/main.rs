//! The command line against a broker in a process of its own: every command as a user gives it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod admin;
mod broker;
mod deployed;
mod guests;
mod misbehaving;
mod newcomer;
mod plugins_and_views;
mod settings;
mod support;
mod topics_and_records;
mod transactions;
mod transforms;
