//! The ring as a node finds it on its disk: who there is, who owns what, and the cluster's secrets.
//!
//! ```text
//! "GRMRING2" | u8 secret's id | secret (32) | ring reply (see gramme-wire) | u32 CRC-32
//! ```

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, ensure};
use bytes::{Buf, Bytes};
use gramme_codec::Codec;
use gramme_replica::Secrets;
use gramme_wire::client::RingReply;

const MAGIC: &[u8; 8] = b"GRMRING2";

/// A cluster's ring and secrets.
#[derive(Clone, Debug)]
pub(crate) struct RingFile {
    pub(crate) ring: RingReply,
    pub(crate) secrets: Secrets,
}

impl RingFile {
    fn encode(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.push(self.secrets.current.0);
        bytes.extend_from_slice(&self.secrets.current.1);
        self.ring.encode_to(&mut bytes);
        bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
        bytes
    }

    fn decode(bytes: &Bytes) -> anyhow::Result<Self> {
        let body = bytes.len().checked_sub(4).context("it is too short")?;
        let checksum = bytes.slice(body..).get_u32_le();
        let mut rest = bytes.slice(..body);
        ensure!(crc32fast::hash(&rest) == checksum && rest.starts_with(MAGIC), "it is damaged, or no ring");
        rest.advance(MAGIC.len());
        let id = u8::parse(&mut rest)?;
        let secret = <[u8; 32]>::parse(&mut rest)?;
        let ring = RingReply::parse(&mut rest)?;
        ensure!(rest.is_empty(), "something follows the ring");
        Ok(Self { ring, secrets: Secrets { current: (id, secret), previous: None } })
    }

    pub(crate) fn read(path: &Path) -> anyhow::Result<Self> {
        let read = || {
            refuse_readable_by_others(path)?;
            Self::decode(&fs::read(path)?.into())
        };
        read().with_context(|| format!("the ring in {}", path.display()))
    }

    pub(crate) fn write(&self, path: &Path) -> anyhow::Result<()> {
        write_private(path, &self.encode())
    }
}

/// Writes a file that only its owner may read.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let write = || {
        let mut file =
            fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

/// Refuses a file that others than its owner may read: it holds a key.
pub(crate) fn refuse_readable_by_others(path: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let metadata = fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mode = metadata.permissions().mode() & 0o777;
    ensure!(mode & 0o077 == 0, "{} may be read by others (mode {mode:o}); make it 0600", path.display());
    Ok(())
}

#[cfg(any(test, fuzzing))]
pub(crate) fn fuzz(input: &[u8]) {
    let _ = RingFile::decode(&Bytes::copy_from_slice(input));
}

#[cfg(test)]
mod tests {
    use gramme_ring::{Member, NodeId, PlanRequest, plan};

    use super::*;

    fn file() -> RingFile {
        let members: Vec<_> = (1..=3).map(|id| Member::new(NodeId(id))).collect();
        let request = PlanRequest { members: &members, replicas: 3, depth: 1, previous: None };
        let layout = plan(&request).expect("a plan").layout;
        let addresses = vec![(NodeId(1), vec!["127.0.0.1:1".to_owned()])];
        let ring = RingReply { cluster: "c".into(), placement_key: [1; 32], addresses, layout };
        RingFile { ring, secrets: Secrets { current: (1, [2; 32]), previous: None } }
    }

    /// The bytes on every disk.
    #[test]
    fn golden() {
        let hex: String = file().encode().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, include_str!("../tests/golden/ring-2.hex").trim());
        let bytes = Bytes::from(file().encode());
        assert_eq!(RingFile::decode(&bytes).expect("its own bytes").ring, file().ring);
        for end in 0..bytes.len() {
            assert!(RingFile::decode(&bytes.slice(..end)).is_err(), "cut at {end}");
        }
    }

    #[test]
    fn a_secret_that_others_can_read_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("ring");
        file().write(&path).expect("a file");
        assert!(RingFile::read(&path).is_ok());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("permissions");
        let error = RingFile::read(&path).expect_err("refused");
        assert!(format!("{error:#}").contains("make it 0600"), "{error:#}");
    }
}
