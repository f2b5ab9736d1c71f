//! Whom a pool's peers have to be signed by, and what we show them: read before anything starts, and again whenever the
//! files change.

use std::sync::Arc;

use pingora::protocols::tls::CaType;
use pingora::upstreams::peer::HttpPeer;
use pingora::utils::tls::{CertKey, WrappedX509, parse_x509};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::config::kept::{self, Files, Kept, hash, unusable};
use crate::config::pair::{self, Unusable};
use crate::config::plan::{UpstreamPlan, UpstreamTls};

/// What new connections to a pool's peers are made with.
pub struct Trust(Kept<Named>);

/// A pool's files.
struct Named {
    group_key: u64,
    files: UpstreamTls,
}

struct Terms {
    ca: Option<Arc<CaType>>,
    own: Option<Arc<CertKey>>,
    contents: u64,
    group_key: u64,
}

/// The files as they are at one moment.
#[derive(Hash)]
struct Contents {
    ca: Option<Vec<u8>>,
    own: Option<(Vec<u8>, Vec<u8>)>,
}

/// Sets connections apart. Pingora's connection pool does not key on the CA, and of our own certificate it sees the
/// serial number alone: without this, pools with one address and different trust would share connections, as would one
/// pool before and after its trust was changed.
pub(super) fn group_key(plan: &UpstreamPlan) -> u64 {
    let name = plan.tls.as_ref().map(|tls| &tls.server_name);
    hash(&(&plan.name, name))
}

impl Trust {
    pub(super) fn open(plan: &UpstreamPlan, files: &UpstreamTls) -> Result<Arc<Self>, String> {
        let named = Named {
            group_key: group_key(plan),
            files: files.clone(),
        };
        Ok(Arc::new(Trust(Kept::open(named)?)))
    }

    /// A hash of what is used of the files.
    pub(super) fn contents(&self) -> u64 {
        self.0.value().contents
    }

    /// As [`Kept::refresh`]. Connections that are in use keep what they have, and idle ones are not used again.
    ///
    /// # Errors
    /// What is wrong with the files, naming the file.
    pub fn refresh(&self) -> Option<Result<(), String>> {
        self.0.refresh()
    }

    pub(super) fn apply(&self, peer: &mut HttpPeer) {
        let terms = self.0.value();
        peer.options.ca.clone_from(&terms.ca);
        peer.client_cert_key.clone_from(&terms.own);
        peer.group_key = terms.group_key;
    }
}

impl Files for Named {
    type Contents = Contents;
    type Value = Terms;

    fn read(&self) -> Result<Contents, String> {
        let own = self.files.own.as_ref().map(|own| {
            let certificate = kept::read(&own.certificate, CERTIFICATE)?;
            Ok::<_, String>((certificate, kept::read(&own.private_key, PRIVATE_KEY)?))
        });
        let ca = self.files.ca.as_deref();
        Ok(Contents {
            ca: ca.map(|path| kept::read(path, CA)).transpose()?,
            own: own.transpose()?,
        })
    }

    fn make(&self, contents: &Contents) -> Result<Terms, String> {
        let ca = match (&contents.ca, &self.files.ca) {
            (Some(pem), Some(path)) => {
                Some(authorities(pem).map_err(|why| unusable(path, CA, &why))?)
            }
            _ => None,
        };
        let own = match (&contents.own, &self.files.own) {
            (Some((certificate, key)), Some(own)) => {
                let pair = pair::read(certificate, key).map_err(|fault| match fault {
                    Unusable::Certificate(why) => unusable(&own.certificate, CERTIFICATE, &why),
                    Unusable::Key(why) => unusable(&own.private_key, PRIVATE_KEY, &why),
                })?;
                let chain = pair.chain.iter().map(|der| der.to_vec()).collect();
                let key = pair.key.secret_der().to_vec();
                Some(Arc::new(CertKey::new(chain, key)))
            }
            _ => None,
        };
        let contents = hash(contents);
        Ok(Terms {
            ca,
            own,
            contents,
            group_key: hash(&(self.group_key, contents)),
        })
    }
}

const CA: &str = "CA file";
const CERTIFICATE: &str = "certificate for peers (tls.certificate)";
const PRIVATE_KEY: &str = "key for peers (tls.private_key)";

fn authorities(pem: &[u8]) -> Result<Arc<CaType>, String> {
    let mut trusted = rustls::RootCertStore::empty();
    let mut found = Vec::new();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|e| e.to_string())?;
        // Pingora's own parser panics on what is no certificate, so rustls looks first.
        trusted
            .add(certificate.clone())
            .map_err(|e| e.to_string())?;
        found.push(WrappedX509::new(certificate.to_vec(), parse_x509));
    }
    if found.is_empty() {
        return Err("there is no certificate in it".to_owned());
    }
    Ok(found.into())
}

#[cfg(test)]
mod tests {
    use pingora::upstreams::peer::Peer;
    use rcgen::{CertificateParams, KeyPair, SerialNumber};

    use super::*;
    use crate::config::plan::OwnCertificate;
    use crate::testkit::{Scratch, upstream};

    /// A pool's files.
    struct Files(Scratch);

    impl Files {
        fn new() -> Self {
            Files(Scratch::new())
        }

        fn write(&self, (certificate, key): &(String, String)) {
            self.0.write("tls.crt", certificate);
            self.0.write("tls.key", key);
        }

        fn open(&self) -> Result<Arc<Trust>, String> {
            let files = UpstreamTls {
                server_name: "origin.test".to_owned(),
                ca: Some(self.0.path("tls.crt")),
                own: Some(OwnCertificate {
                    certificate: self.0.path("tls.crt"),
                    private_key: self.0.path("tls.key"),
                }),
            };
            Trust::open(&upstream("a", &[]), &files)
        }
    }

    /// All have one serial number, which is all that Pingora would tell them apart by.
    fn pair() -> (String, String) {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(vec!["gateway.test".to_owned()]).expect("a name");
        params.serial_number = Some(SerialNumber::from(7));
        let certificate = params.self_signed(&key).expect("a certificate");
        (certificate.pem(), key.serialize_pem())
    }

    fn peer(trust: &Trust) -> HttpPeer {
        let mut peer = HttpPeer::new(("127.0.0.1", 1), true, "origin.test".to_owned());
        trust.apply(&mut peer);
        peer
    }

    #[test]
    fn another_certificate_has_other_connections() {
        let files = Files::new();
        files.write(&pair());
        let trust = files.open().expect("usable");
        let first = peer(&trust);
        assert!(first.client_cert_key.is_some() && first.options.ca.is_some());
        assert_eq!(trust.refresh(), None);
        assert_eq!(peer(&trust).reuse_hash(), first.reuse_hash());
        files.write(&pair());
        assert_eq!(trust.refresh(), Some(Ok(())));
        assert_ne!(peer(&trust).reuse_hash(), first.reuse_hash());
        assert_eq!(trust.refresh(), None);
    }

    #[test]
    fn what_cannot_be_used_leaves_what_was_there() {
        let files = Files::new();
        let good = pair();
        files.write(&good);
        let trust = files.open().expect("usable");
        let first = peer(&trust);
        files.write(&(good.0.clone(), pair().1));
        let why = trust.refresh().expect("a change").expect_err("no pair");
        assert!(
            why.starts_with("cannot use the key for peers (tls.private_key) /"),
            "{why}"
        );
        assert!(!why.contains("PRIVATE"), "{why}");
        assert_eq!(peer(&trust).reuse_hash(), first.reuse_hash());
        // Said once.
        assert_eq!(trust.refresh(), None);
        files.write(&good);
        assert_eq!(trust.refresh(), Some(Ok(())));
        assert_eq!(peer(&trust).reuse_hash(), first.reuse_hash());
        std::fs::remove_file(files.0.path("tls.crt")).expect("removed");
        let why = trust.refresh().expect("a change").expect_err("no file");
        assert!(why.contains("tls.crt"), "{why}");
    }

    #[test]
    fn what_cannot_be_used_does_not_start() {
        let files = Files::new();
        files.write(&(String::new(), pair().1));
        let why = files.open().err().unwrap_or_default();
        assert!(why.contains("there is no certificate in it"), "{why}");
    }
}
