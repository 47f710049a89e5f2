//! What can go wrong: with the engine, a component, an instance, a call.

use crate::limits::LimitsError;

/// Why an engine cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The machine lacks something, address space for example.
    #[error("cannot start the engine for plugins: {0}")]
    Engine(String),
    /// The folder of compiled plugins cannot be used.
    #[error("cannot use the cache of compiled plugins in {path}: {source}")]
    Cache {
        /// The folder.
        path: std::path::PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// Why bytes are no plugin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    /// There are too many of them.
    #[error("the component has {bytes} bytes; {bytes_max} are allowed")]
    TooLarge {
        /// Its size.
        bytes: u64,
        /// The most that is allowed.
        bytes_max: u64,
    },
    /// They are a core module, or something else.
    #[error("{0}")]
    NotComponent(&'static str),
    /// They are damaged, or use what is switched off.
    #[error("the component is malformed: {0}")]
    Malformed(String),
    /// It imports something that is not offered.
    #[error("the component imports '{name}'; plugins may import nothing but '{HOST}'")]
    Import {
        /// The first such import.
        name: String,
    },
    /// It exports none of the worlds, several, or one with other types.
    #[error("{0}")]
    World(String),
    /// It needs more instances, memories or tables than are given to one component.
    #[error("the component needs too much: {0}")]
    TooMuch(String),
}

/// Why there is no instance.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InstantiateError {
    /// The limits cannot be had.
    #[error(transparent)]
    Limits(#[from] LimitsError),
    /// The configuration is too long to hand over.
    #[error("the configuration has {bytes} bytes; {CONFIG_BYTES_MAX} are allowed")]
    ConfigTooLarge {
        /// Its size.
        bytes: usize,
    },
    /// The plugin refuses its configuration, and says why.
    #[error("{0}")]
    Refused(String),
    /// Too many instances are alive, of all plugins together. This passes.
    #[error("too many instances of plugins are in use")]
    Busy,
    /// Starting or configuring it failed as a call does.
    #[error("cannot start the plugin: {0}")]
    Call(#[from] CallError),
}

/// Why a call failed as a whole. The instance is of no use any more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// It trapped: a panic, an access out of bounds, a stack overflow, ...
    #[error("the plugin trapped: {0}")]
    Trap(String),
    /// It used up its fuel.
    #[error("the plugin used up its fuel of {limit}")]
    Fuel {
        /// The limit.
        limit: u64,
    },
    /// It was refused memory, and trapped.
    #[error("the plugin needs more than its {limit} bytes of memory")]
    Memory {
        /// The limit.
        limit: u64,
    },
    /// It returned, or logged at once, more than it may.
    #[error("the plugin returned more than its {limit} bytes of output")]
    Output {
        /// The limit.
        limit: u64,
    },
    /// Its answer breaks the contract.
    #[error("the plugin answered nonsense: {0}")]
    Answer(String),
    /// An earlier call failed.
    #[error("the plugin's instance failed before and cannot be used again")]
    Poisoned,
    /// A filter was asked to partition, or the like.
    #[error("the plugin is a {0}")]
    World(&'static str),
}

/// The one import that is offered.
pub(crate) const HOST: &str = "millstream:plugin/host@0.1.0";

/// Longest configuration.
pub(crate) const CONFIG_BYTES_MAX: usize = 1 << 20;

/// Shortens a text that comes from a guest or is about one, at the end of a character.
pub(crate) fn shorten(mut text: String, bytes_max: usize) -> String {
    if text.len() > bytes_max {
        text.truncate(text.floor_char_boundary(bytes_max));
        text.push('…');
    }
    text
}

/// Longest text of an error that tells what the engine said.
pub(crate) const MESSAGE_BYTES_MAX: usize = 1024;
