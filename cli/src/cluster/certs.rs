//! `millstream cluster certs`: an authority for a cluster, and a certificate for each of its nodes.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use clap::Args;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData,
};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::output::print_text;

/// What `cluster certs` takes.
#[derive(Debug, Args)]
pub struct CertsArgs {
    /// Folder to make: it must not hold certificates of the same nodes yet
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Name of the cluster; certificates of another name are refused by its brokers
    #[arg(long, value_name = "NAME")]
    cluster: String,
    /// Ids of the nodes
    #[arg(long, value_name = "ID,...", value_delimiter = ',', required = true)]
    nodes: Vec<u16>,
    /// How long the nodes' certificates are valid
    #[arg(long, value_name = "DAYS", default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=36_500))]
    days: u32,
    /// Folder with the authority (ca.pem, ca.key) that signs, where there is one: to add nodes, or to renew
    #[arg(long, value_name = "DIR")]
    ca: Option<PathBuf>,
}

/// Makes the files.
///
/// # Errors
/// A name that cannot be in a certificate, files that are there already, a folder that cannot be written.
pub fn run(args: &CertsArgs) -> anyhow::Result<()> {
    let is_label = |label: &str| {
        !label.is_empty()
            && label.len() <= LABEL_CHARACTERS_MAX
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    ensure!(
        args.cluster.split('.').all(is_label) && args.cluster.len() <= NAME_CHARACTERS_MAX,
        "cluster name '{}' must be of a-z, A-Z, 0-9, '-' and '.', as names of hosts are",
        args.cluster
    );
    for node in &args.nodes {
        let folder = args.out.join(node.to_string());
        if folder.join(CERTIFICATE).exists() || folder.join(KEY).exists() {
            bail!(
                "{} holds a certificate already; nothing was changed. Take another --out, and copy what is new",
                folder.display()
            );
        }
    }
    let (authority, issuer) = match &args.ca {
        Some(folder) => read_authority(folder)?,
        None => make_authority(args)?,
    };
    for node in &args.nodes {
        make_node(args, *node, &authority, &issuer)?;
    }
    tell(args)
}

fn make_authority(args: &CertsArgs) -> anyhow::Result<(String, Issuer<'static, KeyPair>)> {
    let (certificate_path, key_path) = (args.out.join(AUTHORITY), args.out.join(AUTHORITY_KEY));
    if certificate_path.exists() || key_path.exists() {
        bail!(
            "{} holds an authority already; use it with --ca {}",
            args.out.display(),
            args.out.display()
        );
    }
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(Vec::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
        .distinguished_name
        .push(DnType::CommonName, format!("Millstream cluster {}", args.cluster));
    valid_for(&mut params, AUTHORITY_DAYS);
    let certificate = params.self_signed(&key)?.pem();
    fs::create_dir_all(&args.out).with_context(|| format!("cannot make {}", args.out.display()))?;
    write(&key_path, &key.serialize_pem(), SECRET_MODE)?;
    write(&certificate_path, &certificate, PUBLIC_MODE)?;
    let issuer = Issuer::new(params, key);
    Ok((certificate, issuer))
}

fn read_authority(folder: &Path) -> anyhow::Result<(String, Issuer<'static, KeyPair>)> {
    let read = |name: &str| {
        let path = folder.join(name);
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    };
    let (certificate, key) = (read(AUTHORITY)?, read(AUTHORITY_KEY)?);
    let key = KeyPair::from_pem(&key)
        .with_context(|| format!("{} is no private key", folder.join(AUTHORITY_KEY).display()))?;
    let path = folder.join(AUTHORITY);
    let parsed = CertificateDer::from_pem_slice(certificate.as_bytes())
        .with_context(|| format!("{} is no certificate", path.display()))?;
    let public = key.subject_public_key_info();
    ensure!(
        parsed.windows(public.len()).any(|part| part == public),
        "{} is not the key of {}",
        folder.join(AUTHORITY_KEY).display(),
        path.display()
    );
    let issuer = Issuer::from_ca_cert_der(&parsed, key)
        .with_context(|| format!("{} is no authority's certificate", path.display()))?;
    Ok((certificate, issuer))
}

fn make_node(
    args: &CertsArgs,
    node: u16,
    authority: &str,
    issuer: &Issuer<'static, KeyPair>,
) -> anyhow::Result<()> {
    let name = format!("node-{node}.{}.millstream.internal", args.cluster);
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(vec![name])?;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    params.use_authority_key_identifier_extension = true;
    params.distinguished_name.push(
        DnType::CommonName,
        format!("Millstream node {node} of {}", args.cluster),
    );
    valid_for(&mut params, args.days);
    let certificate = params.signed_by(&key, issuer)?.pem();
    let folder = args.out.join(node.to_string());
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    write(&folder.join(KEY), &key.serialize_pem(), SECRET_MODE)?;
    write(&folder.join(CERTIFICATE), &certificate, PUBLIC_MODE)?;
    write(&folder.join(AUTHORITY), authority, PUBLIC_MODE)
}

/// Valid from yesterday on: clocks differ.
fn valid_for(params: &mut CertificateParams, days: u32) {
    let now = std::time::SystemTime::now();
    let day = std::time::Duration::from_secs(24 * 3600);
    params.not_before = (now - day).into();
    params.not_after = (now + day * days).into();
}

fn write(path: &Path, text: &str, mode: u32) -> anyhow::Result<()> {
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path);
    let written = file.and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()));
    written.with_context(|| format!("cannot write {}", path.display()))
}

fn tell(args: &CertsArgs) -> anyhow::Result<()> {
    let out = args.out.display();
    for node in &args.nodes {
        print_text(&format!(
            "node {node}: {out}/{node}/{{{AUTHORITY},{CERTIFICATE},{KEY}}}"
        ))?;
    }
    let authority = args.ca.as_ref().unwrap_or(&args.out).display();
    print_text(&format!(
        "\nKeep secret: {authority}/{AUTHORITY_KEY}, which can make nodes of this cluster (keep it off the brokers), and\n\
         each node's {KEY}, which belongs on that node only. Everything else may be read by anybody.\n\
         The nodes' certificates are valid for {} days; `millstream cluster certs --ca {authority} ...` makes new ones,\n\
         and brokers take changed files without a restart.",
        args.days
    ))?;
    Ok(())
}

const AUTHORITY: &str = "ca.pem";
const AUTHORITY_KEY: &str = "ca.key";
const CERTIFICATE: &str = "node.pem";
const KEY: &str = "node.key";
const SECRET_MODE: u32 = 0o600;
const PUBLIC_MODE: u32 = 0o644;
/// An authority outlives its nodes' certificates.
const AUTHORITY_DAYS: u32 = 3650;
/// As in names of hosts (RFC 1035).
const LABEL_CHARACTERS_MAX: usize = 63;
/// What is left of a host's name beside node and suffix.
const NAME_CHARACTERS_MAX: usize = 200;

/// Ends the help of `cluster certs`.
pub const EXAMPLE: &str = "\
Examples:
  millstream cluster certs --out certs --cluster prod --nodes 1,2,3
  millstream cluster certs --out more --cluster prod --nodes 4 --ca certs
  millstream cluster certs --out renewed --cluster prod --nodes 1,2,3 \\
      --ca certs --days 90";

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn args(out: PathBuf, nodes: &[u16], ca: Option<PathBuf>) -> CertsArgs {
        CertsArgs {
            out,
            cluster: "prod".to_owned(),
            nodes: nodes.to_vec(),
            days: 30,
            ca,
        }
    }

    #[test]
    fn keys_are_for_their_owner_only_and_nothing_is_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("certs");
        run(&args(out.clone(), &[1, 2], None)).unwrap();
        for key in ["ca.key", "1/node.key", "2/node.key"] {
            let mode = out.join(key).metadata().unwrap().permissions().mode() & 0o777;
            assert_eq!(mode, 0o600, "{key}");
        }
        let before = fs::read(out.join("1/node.pem")).unwrap();
        assert!(run(&args(out.clone(), &[1], Some(out.clone()))).is_err());
        assert_eq!(fs::read(out.join("1/node.pem")).unwrap(), before);
        assert!(
            run(&args(out.clone(), &[3], None)).is_err(),
            "the authority is there"
        );
        run(&args(out.clone(), &[3], Some(out.clone()))).unwrap();
        let authority = fs::read(out.join("ca.pem")).unwrap();
        assert_eq!(fs::read(out.join("3/ca.pem")).unwrap(), authority);
    }

    #[test]
    fn an_authority_signs_with_its_own_key_only() {
        let dir = tempfile::tempdir().unwrap();
        let (out, other) = (dir.path().join("certs"), dir.path().join("other"));
        run(&args(out.clone(), &[1], None)).unwrap();
        run(&args(other.clone(), &[1], None)).unwrap();
        fs::copy(other.join("ca.key"), out.join("ca.key")).unwrap();
        let refused = run(&args(dir.path().join("more"), &[2], Some(out))).unwrap_err();
        assert!(refused.to_string().contains("is not the key of"), "{refused}");
        assert!(!dir.path().join("more").exists());
    }

    #[test]
    fn a_name_that_no_certificate_can_have_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        for wrong in ["", "two words", "a..b", "-a", &"x".repeat(64)] {
            let args = CertsArgs {
                cluster: wrong.to_owned(),
                ..args(dir.path().join("certs"), &[1], None)
            };
            assert!(run(&args).is_err(), "{wrong}");
        }
        assert!(!dir.path().join("certs").exists());
    }
}
