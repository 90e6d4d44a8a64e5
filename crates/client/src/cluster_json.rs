//! A cluster as `gramme dev` describes it, in the `cluster.json` of its directory.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use gramme_transport::{CredentialError, Credentials};
use serde_json::Value;

use crate::client::Config;

/// Why a description does not make a client.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file cannot be read.
    #[error("cannot read {path}: {error}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the operating system said.
        error: std::io::Error,
    },
    /// The description lacks something.
    #[error("{path} does not describe a cluster: {what}")]
    Description {
        /// The description.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The credentials that it names cannot be used.
    #[error(transparent)]
    Credentials(#[from] CredentialError),
}

impl Config {
    /// A client of the cluster that `path` describes, with the credentials that it names.
    ///
    /// # Errors
    /// [`ConfigError`] if a file cannot be read, or does not hold what it should.
    pub fn from_cluster_json(path: &Path) -> Result<Self, ConfigError> {
        let wrong = |what: &str| ConfigError::Description { path: path.to_owned(), what: what.to_owned() };
        let cluster: Value =
            serde_json::from_slice(&read(path)?).map_err(|error| wrong(&error.to_string()))?;
        let file = |name: &str| {
            let file = cluster["client"][name].as_str().ok_or_else(|| wrong("it names no client's files"))?;
            read(Path::new(file))
        };
        let credentials = Credentials::from_pem(&file("ca")?, &file("cert")?, &file("key")?)?;
        let nodes = cluster["nodes"].as_array().ok_or_else(|| wrong("it names no nodes"))?;
        let addresses = nodes.iter().filter_map(|node| node["quic"].as_array()).flatten();
        let seeds: Vec<SocketAddr> = addresses.filter_map(|text| text.as_str()?.parse().ok()).collect();
        if seeds.is_empty() {
            return Err(wrong("it names no addresses"));
        }
        Ok(Self::new(credentials, seeds))
    }
}

fn read(path: &Path) -> Result<Vec<u8>, ConfigError> {
    std::fs::read(path).map_err(|error| ConfigError::Read { path: path.to_owned(), error })
}
