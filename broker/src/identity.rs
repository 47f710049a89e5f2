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

/// Whose a data directory is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The cluster's id.
    pub cluster_id: String,
    /// Names this disk: a broker that comes back with another one has lost what it held.
    pub storage: Uuid,
}

/// The identity that a data directory has; a new one, written durably, where it is empty. A broker of a cluster says the
/// cluster's name, which its certificate carries: the directory of a broker that was alone until now takes it on.
///
/// # Errors
/// The directory belongs to another broker, or cannot be read or written.
pub fn open(directory: &Path, node_id: i32, cluster: Option<&str>) -> Result<Identity, IdentityError> {
    let path = directory.join(META_PROPERTIES);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let identity = Identity {
                cluster_id: cluster.map_or_else(|| encode(Uuid::new_v4()), str::to_owned),
                storage: Uuid::new_v4(),
            };
            write(directory, node_id, &identity)?;
            return Ok(identity);
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
    let found = value("cluster.id")
        .filter(|id| !id.is_empty())
        .ok_or(IdentityError::NoClusterId)?;
    let storage = value("directory.id").and_then(|text| decode(&text));
    let identity = Identity {
        cluster_id: cluster.map_or_else(|| found.clone(), str::to_owned),
        storage: storage.unwrap_or_else(Uuid::new_v4),
    };
    if storage.is_none() || identity.cluster_id != found {
        write(directory, node_id, &identity)?;
    }
    Ok(identity)
}

fn write(directory: &Path, node_id: i32, identity: &Identity) -> io::Result<()> {
    let temporary = directory.join("meta.properties.tmp");
    let (cluster_id, storage) = (&identity.cluster_id, encode(identity.storage));
    let text = format!("version=1\ncluster.id={cluster_id}\nnode.id={node_id}\ndirectory.id={storage}\n");
    let mut file = File::create(&temporary)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&temporary, directory.join(META_PROPERTIES))?;
    File::open(directory)?.sync_all()
}

/// An id as Kafka writes them: 128 bits in URL-safe base 64 without padding (RFC 4648).
fn encode(id: Uuid) -> String {
    let bits = id.as_u128();
    let whole = (0..21).map(|n| ALPHABET[(bits >> (122 - 6 * n)) as usize & 63]);
    let last = ALPHABET[((bits & 3) << 4) as usize];
    whole.chain([last]).map(char::from).collect()
}

fn decode(text: &str) -> Option<Uuid> {
    let places = text.bytes().map(|c| ALPHABET.iter().position(|a| *a == c));
    let places: Vec<u128> = places
        .map(|place| place.map(|n| n as u128))
        .collect::<Option<_>>()?;
    let (last, whole) = places.split_last().filter(|(_, whole)| whole.len() == 21)?;
    let bits = whole.iter().fold(0_u128, |bits, place| bits << 6 | place);
    Some(Uuid::from_u128(bits << 2 | last >> 4)).filter(|id| !id.is_nil())
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
const META_PROPERTIES: &str = "meta.properties";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_keeps_its_cluster_its_broker_and_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let first = open(dir.path(), 1, None).unwrap();
        assert_eq!(first.cluster_id.len(), 22);
        assert_eq!(open(dir.path(), 1, None).unwrap(), first);
        let error = open(dir.path(), 2, None).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the data directory belongs to broker 1, and node.id is 2"
        );
    }

    #[test]
    fn a_broker_that_was_alone_takes_on_the_name_of_its_cluster_and_keeps_its_disk() {
        let dir = tempfile::tempdir().unwrap();
        let alone = open(dir.path(), 1, None).unwrap();
        let member = open(dir.path(), 1, Some("orders")).unwrap();
        assert_eq!((&*member.cluster_id, member.storage), ("orders", alone.storage));
        assert_eq!(open(dir.path(), 1, None).unwrap(), member);
    }

    #[test]
    fn a_file_of_kafka_is_understood() {
        let dir = tempfile::tempdir().unwrap();
        let text = "#\n#Tue Jan 01\nnode.id=7\ndirectory.id=x\nversion=1\ncluster.id=abc\n";
        std::fs::write(dir.path().join(META_PROPERTIES), text).unwrap();
        let first = open(dir.path(), 7, None).unwrap();
        assert_eq!(first.cluster_id, "abc");
        assert_eq!(open(dir.path(), 7, None).unwrap(), first);
        std::fs::write(dir.path().join(META_PROPERTIES), "version=1\n").unwrap();
        assert!(matches!(
            open(dir.path(), 7, None),
            Err(IdentityError::NoClusterId)
        ));
    }

    #[test]
    fn ids_are_read_as_they_are_written() {
        let id = Uuid::from_u128(0x0123_4567_89ab_cdef_fedc_ba98_7654_3213);
        assert_eq!(decode(&encode(id)), Some(id));
        assert_eq!(decode("x"), None);
    }
}
