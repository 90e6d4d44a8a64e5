//! The cluster's own certificate authority, and what it issues.

use gramme_ring::NodeId;
use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ED25519, PublicKeyData, SanType, SerialNumber,
    date_time_ymd,
};

use crate::identity::{Role, SERVER_NAME};

/// A key or certificate could not be made.
#[derive(Debug, thiserror::Error)]
#[error("a certificate could not be made: {0}")]
pub struct PkiError(#[from] rcgen::Error);

/// The authority of one cluster: it alone says who belongs to it.
#[derive(Debug)]
pub struct Authority {
    cluster: String,
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
    key: String,
}

/// A certificate with its key, as PEM.
#[derive(Clone, Debug)]
pub struct Issued {
    /// The certificate.
    pub certificate: String,
    /// The private key.
    pub key: String,
    /// For a node, its id.
    pub node: Option<NodeId>,
}

impl Authority {
    /// Founds the authority of a new cluster.
    ///
    /// # Errors
    /// [`PkiError`] if a name in it is no ASCII text, or the machine has no randomness.
    pub fn found(cluster: &str) -> Result<Self, PkiError> {
        let key = KeyPair::generate_for(&PKCS_ED25519)?;
        let key_pem = key.serialize_pem();
        let certified = CertifiedIssuer::self_signed(parameters(cluster), key)?;
        let certificate = certified.pem();
        Self::load(cluster, certificate, key_pem)
    }

    /// Takes the authority that [`Authority::certificate`] and [`Authority::key`] gave.
    ///
    /// # Errors
    /// [`PkiError`] if the bytes are not a valid key.
    pub fn load(cluster: &str, certificate: String, key: String) -> Result<Self, PkiError> {
        let issuer = Issuer::new(parameters(cluster), KeyPair::from_pem(&key)?);
        Ok(Self { cluster: cluster.to_owned(), issuer, certificate, key })
    }

    /// The certificate that nodes and clients trust, as PEM.
    #[must_use]
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// The key that signs, as PEM. Whoever has it can join the cluster.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Issues a new node's identity.
    ///
    /// # Errors
    /// [`PkiError`] if the machine has no randomness.
    pub fn issue_node(&self) -> Result<Issued, PkiError> {
        self.certify_node(&KeyPair::generate_for(&PKCS_ED25519)?)
    }

    /// Issues another certificate for a node's key: the node stays who it is.
    ///
    /// # Errors
    /// [`PkiError`] if the bytes are not a valid key.
    pub fn renew_node(&self, key: &str) -> Result<Issued, PkiError> {
        self.certify_node(&KeyPair::from_pem(key)?)
    }

    fn certify_node(&self, key: &KeyPair) -> Result<Issued, PkiError> {
        let node = node_id_of(&key.subject_public_key_info());
        let names = vec![SanType::DnsName(Ia5String::try_from(SERVER_NAME)?)];
        let usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let issued = self.issue(key, &Role::Node(node), names, usages)?;
        Ok(Issued { node: Some(node), ..issued })
    }

    /// Issues a client's identity. It cannot pass for a node: it has no server's name and no server's usage.
    ///
    /// # Errors
    /// [`PkiError`] if the name is no ASCII text, or the machine has no randomness.
    pub fn issue_client(&self, name: &str) -> Result<Issued, PkiError> {
        let key = KeyPair::generate_for(&PKCS_ED25519)?;
        self.issue(
            &key,
            &Role::Client(name.to_owned()),
            Vec::new(),
            vec![ExtendedKeyUsagePurpose::ClientAuth],
        )
    }

    fn issue(
        &self,
        key: &KeyPair,
        role: &Role,
        mut names: Vec<SanType>,
        usages: Vec<ExtendedKeyUsagePurpose>,
    ) -> Result<Issued, PkiError> {
        names.push(SanType::URI(Ia5String::try_from(role.uri(&self.cluster))?));
        let mut parameters = CertificateParams::default();
        parameters.subject_alt_names = names;
        parameters.distinguished_name = DistinguishedName::new();
        parameters.distinguished_name.push(DnType::OrganizationName, "gramme");
        parameters.is_ca = IsCa::ExplicitNoCa;
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        parameters.extended_key_usages = usages;
        // No two certificates of one issuer may have one number: by default two for one key would.
        let mut number: [u8; 16] = rand::random();
        // Positive, and of one length.
        number[0] = number[0] & 0x7f | 0x40;
        parameters.serial_number = Some(SerialNumber::from_slice(&number));
        set_validity(&mut parameters);
        let certificate = parameters.signed_by(key, &self.issuer)?;
        Ok(Issued { certificate: certificate.pem(), key: key.serialize_pem(), node: None })
    }
}

/// A node's id: the first 64 bits of the hash of its public key (as a DER `SubjectPublicKeyInfo`).
#[must_use]
pub fn node_id_of(public_key: &[u8]) -> NodeId {
    let hash = blake3::hash(public_key);
    NodeId(hash.as_bytes().first_chunk().map_or(0, |first| u64::from_be_bytes(*first)))
}

fn parameters(cluster: &str) -> CertificateParams {
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name = DistinguishedName::new();
    parameters.distinguished_name.push(DnType::CommonName, format!("gramme {cluster}"));
    parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    set_validity(&mut parameters);
    parameters
}

/// Long: who belongs to a cluster ends by removal, not by a date that everybody forgets.
fn set_validity(parameters: &mut CertificateParams) {
    parameters.not_before = date_time_ymd(2024, 1, 1);
    parameters.not_after = date_time_ymd(2124, 1, 1);
}
