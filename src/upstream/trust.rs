//! Whom a pool's peers have to be signed by, and what we show them: read before anything starts, and again whenever the
//! files change.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use pingora::protocols::tls::CaType;
use pingora::upstreams::peer::HttpPeer;
use pingora::utils::tls::{CertKey, WrappedX509, parse_x509};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::config::pair::{self, Unusable};
use crate::config::plan::{UpstreamPlan, UpstreamTls};

/// What new connections to a pool's peers are made with.
pub struct Trust {
    group_key: u64,
    files: UpstreamTls,
    current: ArcSwap<Terms>,
    /// What the files held when they were last looked at, or why they could not be read.
    seen: Mutex<Result<u64, String>>,
}

struct Terms {
    ca: Option<Arc<CaType>>,
    own: Option<Arc<CertKey>>,
    contents: u64,
    group_key: u64,
}

/// The files as they are at one moment.
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

fn hash(what: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    hasher.finish()
}

impl Trust {
    pub(super) fn open(plan: &UpstreamPlan, files: &UpstreamTls) -> Result<Arc<Self>, String> {
        let contents = Contents::read(files)?;
        let group_key = group_key(plan);
        Ok(Arc::new(Trust {
            current: ArcSwap::from_pointee(contents.terms(group_key, files)?),
            seen: Mutex::new(Ok(contents.hash())),
            group_key,
            files: files.clone(),
        }))
    }

    /// A hash of what is used of the files.
    pub(super) fn contents(&self) -> u64 {
        self.current.load().contents
    }

    /// Looks at the files again. `None`: nothing has changed since the last look. A file that is broken leaves what
    /// was there; connections that are in use keep what they have, and idle ones are not used again.
    ///
    /// # Errors
    /// What is wrong with the files, naming the file.
    pub fn refresh(&self) -> Option<Result<(), String>> {
        let contents = Contents::read(&self.files);
        let now = contents.as_ref().map(Contents::hash).map_err(Clone::clone);
        {
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            if *seen == now {
                return None;
            }
            *seen = now;
        }
        let terms = contents.and_then(|contents| contents.terms(self.group_key, &self.files));
        Some(terms.map(|terms| self.current.store(Arc::new(terms))))
    }

    pub(super) fn apply(&self, peer: &mut HttpPeer) {
        let terms = self.current.load();
        peer.options.ca.clone_from(&terms.ca);
        peer.client_cert_key.clone_from(&terms.own);
        peer.group_key = terms.group_key;
    }
}

impl Contents {
    fn read(files: &UpstreamTls) -> Result<Self, String> {
        let read = |path: &Path, what: &str| {
            std::fs::read(path).map_err(|e| explain(path, what, &e.to_string()))
        };
        let own = files.own.as_ref().map(|own| {
            let certificate = read(&own.certificate, CERTIFICATE)?;
            Ok::<_, String>((certificate, read(&own.private_key, PRIVATE_KEY)?))
        });
        Ok(Contents {
            ca: files.ca.as_deref().map(|path| read(path, CA)).transpose()?,
            own: own.transpose()?,
        })
    }

    fn hash(&self) -> u64 {
        hash(&(&self.ca, &self.own))
    }

    fn terms(&self, group_key: u64, files: &UpstreamTls) -> Result<Terms, String> {
        let ca = match (&self.ca, &files.ca) {
            (Some(pem), Some(path)) => {
                Some(authorities(pem).map_err(|why| explain(path, CA, &why))?)
            }
            _ => None,
        };
        let own = match (&self.own, &files.own) {
            (Some((certificate, key)), Some(own)) => {
                let pair = pair::read(certificate, key).map_err(|fault| match fault {
                    Unusable::Certificate(why) => explain(&own.certificate, CERTIFICATE, &why),
                    Unusable::Key(why) => explain(&own.private_key, PRIVATE_KEY, &why),
                })?;
                let chain = pair.chain.iter().map(|der| der.to_vec()).collect();
                let key = pair.key.secret_der().to_vec();
                Some(Arc::new(CertKey::new(chain, key)))
            }
            _ => None,
        };
        Ok(Terms {
            ca,
            own,
            contents: self.hash(),
            group_key: hash(&(group_key, self.hash())),
        })
    }
}

const CA: &str = "CA file";
const CERTIFICATE: &str = "certificate for peers (tls.certificate)";
const PRIVATE_KEY: &str = "key for peers (tls.private_key)";

fn explain(path: &Path, what: &str, why: &str) -> String {
    format!("cannot use the {what} {}: {why}", path.display())
}

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
    use std::path::PathBuf;

    use pingora::upstreams::peer::Peer;
    use rcgen::{CertificateParams, KeyPair, SerialNumber};

    use super::*;
    use crate::config::plan::OwnCertificate;
    use crate::testkit::upstream;

    /// A directory of the test's own.
    struct Files(PathBuf);

    impl Files {
        fn new(name: &str) -> Self {
            let name = format!("portcullis-trust-{}-{name}", std::process::id());
            let directory = std::env::temp_dir().join(name);
            std::fs::create_dir_all(&directory).expect("a directory");
            Files(directory)
        }

        fn write(&self, (certificate, key): &(String, String)) {
            std::fs::write(self.0.join("tls.crt"), certificate).expect("written");
            std::fs::write(self.0.join("tls.key"), key).expect("written");
        }

        fn open(&self) -> Result<Arc<Trust>, String> {
            let files = UpstreamTls {
                server_name: "origin.test".to_owned(),
                ca: Some(self.0.join("tls.crt")),
                own: Some(OwnCertificate {
                    certificate: self.0.join("tls.crt"),
                    private_key: self.0.join("tls.key"),
                }),
            };
            Trust::open(&upstream("a", &[]), &files)
        }
    }

    impl Drop for Files {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
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
        let files = Files::new("another");
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
        let files = Files::new("broken");
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
        std::fs::remove_file(files.0.join("tls.crt")).expect("removed");
        let why = trust.refresh().expect("a change").expect_err("no file");
        assert!(why.contains("tls.crt"), "{why}");
    }

    #[test]
    fn what_cannot_be_used_does_not_start() {
        let files = Files::new("start");
        files.write(&(String::new(), pair().1));
        let why = files.open().err().unwrap_or_default();
        assert!(why.contains("there is no certificate in it"), "{why}");
    }
}
