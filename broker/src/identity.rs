//! Who a data directory belongs to: `meta.properties`, as Kafka has it.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use uuid::Uuid;

/// Why a data directory is not this broker's.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The file cannot be read or written.
    #[error("meta.properties: {0}")]
    Io(#[from] io::Error),
    /// The file does not name a cluster.
    #[error("meta.properties names no cluster.id")]
    NoClusterId,
    /// The directory belongs to another broker.
    #[error("the data directory belongs to broker {found}, and node.id is {configured}")]
    OtherNode {
        /// Whose it is.
        found: String,
        /// Who asks.
        configured: i32,
    },
}

/// The id of the cluster that the data directory belongs to; a new one, written durably, where it is empty.
///
/// # Errors
/// The directory belongs to another broker, or cannot be read or written.
pub fn cluster_id(directory: &Path, node_id: i32) -> Result<String, IdentityError> {
    let path = directory.join(META_PROPERTIES);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let id = new_cluster_id();
            let temporary = directory.join("meta.properties.tmp");
            let mut file = File::create(&temporary)?;
            file.write_all(format!("version=1\ncluster.id={id}\nnode.id={node_id}\n").as_bytes())?;
            file.sync_all()?;
            std::fs::rename(&temporary, &path)?;
            File::open(directory)?.sync_all()?;
            return Ok(id);
        }
        Err(error) => return Err(error.into()),
    };
    let value = |name: &str| {
        text.lines()
            .filter_map(|line| line.split_once('='))
            .find(|(key, _)| key.trim() == name)
            .map(|(_, value)| value.trim().to_owned())
    };
    match value("node.id").or_else(|| value("broker.id")) {
        Some(found) if found != node_id.to_string() => {
            return Err(IdentityError::OtherNode {
                found,
                configured: node_id,
            });
        }
        _ => {}
    }
    value("cluster.id")
        .filter(|id| !id.is_empty())
        .ok_or(IdentityError::NoClusterId)
}

/// A random id as Kafka makes them: 128 bits in URL-safe base 64 without padding (RFC 4648).
fn new_cluster_id() -> String {
    let bits = Uuid::new_v4().as_u128();
    let whole = (0..21).map(|n| ALPHABET[(bits >> (122 - 6 * n)) as usize & 63]);
    let last = ALPHABET[((bits & 3) << 4) as usize];
    whole.chain([last]).map(char::from).collect()
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
const META_PROPERTIES: &str = "meta.properties";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_keeps_its_cluster_and_its_broker() {
        let dir = tempfile::tempdir().unwrap();
        let id = cluster_id(dir.path(), 1).unwrap();
        assert_eq!(id.len(), 22);
        assert_eq!(cluster_id(dir.path(), 1).unwrap(), id);
        let error = cluster_id(dir.path(), 2).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the data directory belongs to broker 1, and node.id is 2"
        );
    }

    #[test]
    fn a_file_of_kafka_is_understood() {
        let dir = tempfile::tempdir().unwrap();
        let text = "#\n#Tue Jan 01\nnode.id=7\ndirectory.id=x\nversion=1\ncluster.id=abc\n";
        std::fs::write(dir.path().join(META_PROPERTIES), text).unwrap();
        assert_eq!(cluster_id(dir.path(), 7).unwrap(), "abc");
        std::fs::write(dir.path().join(META_PROPERTIES), "version=1\n").unwrap();
        assert!(matches!(
            cluster_id(dir.path(), 7),
            Err(IdentityError::NoClusterId)
        ));
    }
}
