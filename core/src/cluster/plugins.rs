//! Plugins as the cluster knows them: names, versions, references, limits.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::config::Role;
use crate::ids::TopicName;

/// One version of a plugin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plugin {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: PluginVersion,
    /// SHA-256 of its bytes, in hexadecimal.
    pub sha256: String,
    /// What it can be attached as.
    pub world: World,
    /// Size in bytes.
    pub size: u64,
    /// Its limits, unless set where it is attached.
    pub limits: PluginLimits,
    /// When it was pushed, in milliseconds since 1970.
    pub pushed_at_ms: i64,
}

/// What a plugin exports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum World {
    /// Chooses the partition of records.
    Partitioner,
    /// Keeps or drops records.
    Filter,
    /// Changes records.
    Transform,
}

impl World {
    /// Whether a plugin of this world can be attached so.
    pub fn serves(self, role: Role) -> bool {
        match role {
            Role::Partitioner => self == Self::Partitioner,
            Role::Ingest | Role::View => self != Self::Partitioner,
        }
    }
}

impl fmt::Display for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Partitioner => "partitioner",
            Self::Filter => "filter",
            Self::Transform => "transform",
        })
    }
}

/// Limits of a plugin's instances; what is not set has the runtime's default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct PluginLimits {
    /// Memory of one instance, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// Fuel of one call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fuel: Option<u64>,
    /// Output of one call, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_bytes: Option<u64>,
    /// Instances at a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instances: Option<u32>,
    /// Bytes of log lines in a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_bytes_per_s: Option<u64>,
}

/// Version of a plugin, compared number by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PluginVersion {
    /// First number.
    pub major: u32,
    /// Second number; the next version that is not named has one more.
    pub minor: u32,
    /// Third number.
    pub patch: u32,
}

impl PluginVersion {
    /// What the first version of a plugin gets.
    pub const FIRST: Self = Self {
        major: 0,
        minor: 1,
        patch: 0,
    };

    /// What the version after this one gets; none beyond the largest.
    pub fn next(self) -> Option<Self> {
        self.minor.checked_add(1).map(|minor| Self {
            minor,
            patch: 0,
            ..self
        })
    }
}

impl fmt::Display for PluginVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

impl FromStr for PluginVersion {
    type Err = PluginRefError;

    fn from_str(text: &str) -> Result<Self, PluginRefError> {
        let wrong = || PluginRefError::Version(text.chars().take(PLUGIN_NAME_CHARACTERS_MAX).collect());
        let number = |part: &str| match part.bytes().all(|b| b.is_ascii_digit()) {
            true => part.parse::<u32>().map_err(|_| wrong()),
            false => Err(wrong()),
        };
        let parts: Vec<&str> = text.split('.').collect();
        match parts[..] {
            [major, minor, patch] => Ok(Self {
                major: number(major)?,
                minor: number(minor)?,
                patch: number(patch)?,
            }),
            _ => Err(wrong()),
        }
    }
}

impl TryFrom<String> for PluginVersion {
    type Error = PluginRefError;

    fn try_from(text: String) -> Result<Self, PluginRefError> {
        text.parse()
    }
}

impl From<PluginVersion> for String {
    fn from(version: PluginVersion) -> Self {
        version.to_string()
    }
}

/// `NAME`, `NAME@latest` or `NAME@1.2.3`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PluginRef {
    /// The plugin's name.
    pub name: String,
    /// Its version; none means the latest at the time that it is looked up.
    pub version: Option<PluginVersion>,
}

/// Why a text is no reference to a plugin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum PluginRefError {
    /// The name has characters that are not allowed, is empty or too long.
    #[error("plugin name '{0}' is not 1 to {PLUGIN_NAME_CHARACTERS_MAX} of a-z, A-Z, 0-9, '.', '_', '-'")]
    Name(String),
    /// The version is not three numbers.
    #[error("plugin version '{0}' is not like 1.2.3")]
    Version(String),
}

impl PluginRef {
    /// Reads a reference.
    ///
    /// # Errors
    /// A wrong name or version.
    pub fn parse(text: &str) -> Result<Self, PluginRefError> {
        let (name, version) = text.split_once('@').unwrap_or((text, "latest"));
        check_plugin_name(name)?;
        let version = if version == "latest" {
            None
        } else {
            Some(version.parse()?)
        };
        Ok(Self {
            name: name.to_owned(),
            version,
        })
    }
}

impl FromStr for PluginRef {
    type Err = PluginRefError;

    fn from_str(text: &str) -> Result<Self, PluginRefError> {
        Self::parse(text)
    }
}

impl TryFrom<String> for PluginRef {
    type Error = PluginRefError;

    fn try_from(text: String) -> Result<Self, PluginRefError> {
        Self::parse(&text)
    }
}

impl From<PluginRef> for String {
    fn from(reference: PluginRef) -> Self {
        reference.to_string()
    }
}

impl fmt::Display for PluginRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.version {
            Some(version) => write!(f, "{}@{version}", self.name),
            None => write!(f, "{}@latest", self.name),
        }
    }
}

/// Who uses a plugin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PluginUser {
    /// A topic that has it attached.
    Topic {
        /// The topic.
        topic: TopicName,
        /// What the plugin does there.
        role: Role,
        /// How the topic names it.
        reference: PluginRef,
    },
    /// A transform that runs it, tries it, or may go back to it.
    Transform {
        /// The transform.
        transform: String,
        /// The version, which never is the latest.
        reference: PluginRef,
    },
}

impl fmt::Display for PluginUser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Topic {
                topic,
                role,
                reference,
            } => {
                let role = match role {
                    Role::Partitioner => "partitioner",
                    Role::Ingest => "ingest",
                    Role::View => "view",
                };
                write!(f, "{topic} ({role}, as {reference})")
            }
            Self::Transform { transform, reference } => {
                write!(f, "{transform} (transform, as {reference})")
            }
        }
    }
}

/// Checks the name of a plugin.
pub(super) fn check_plugin_name(name: &str) -> Result<(), PluginRefError> {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let wrong = name.is_empty() || name.len() > PLUGIN_NAME_CHARACTERS_MAX || !name.chars().all(good);
    match wrong || name.starts_with('.') {
        true => Err(PluginRefError::Name(
            name.chars().take(PLUGIN_NAME_CHARACTERS_MAX).collect(),
        )),
        false => Ok(()),
    }
}

/// Longest name of a plugin, in characters.
pub const PLUGIN_NAME_CHARACTERS_MAX: usize = 100;
