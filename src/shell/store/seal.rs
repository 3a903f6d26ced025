//! Credentials at rest: AES-256-GCM under a key that does not lie in the database.
//!
//! A digest credential is as good as the password for this server, so a copied database file must not give it away.

use std::{fs, path::Path};

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};

use crate::{
    config::PrivateAddress,
    shell::{entropy, files},
    types::{Private, Secret},
    wire::sip::digest::Credential,
};

use super::StoreError;

/// Name of the systemd credential that holds the key (`LoadCredentialEncrypted=`).
const SYSTEMD_CREDENTIAL: &str = "ringdown-seal-key";
const KEY_FILE: &str = "seal.key";
const KEY_BYTES: usize = 32;
const MD5_BYTES: usize = 16;
const SHA256_BYTES: usize = 32;
/// What [`SealKey::proof`] seals.
const PROOF: &[u8] = b"ringdown seal proof";

/// The sealing key. A fresh random nonce goes before each sealed text.
pub(super) struct SealKey(RandomizedNonceKey);

impl SealKey {
    /// The key of the systemd credential if there is one, else of `state_dir/seal.key`, which is created where
    /// `may_create` says that nothing has been sealed yet.
    pub(super) fn load(state_dir: &Path, may_create: bool) -> Result<Self, StoreError> {
        if let Some(folder) = std::env::var_os("CREDENTIALS_DIRECTORY") {
            let path = Path::new(&folder).join(SYSTEMD_CREDENTIAL);
            if path.exists() {
                return Self::read(&path);
            }
        }
        let path = state_dir.join(KEY_FILE);
        if may_create && !path.exists() {
            let key = Secret::new(entropy::rng().bytes::<KEY_BYTES>());
            files::write(&path, key.expose()).map_err(|e| StoreError::file(&path, &e))?;
        }
        Self::read(&path)
    }

    fn read(path: &Path) -> Result<Self, StoreError> {
        let bytes = Secret::new(fs::read(path).map_err(|e| StoreError::file(path, &e))?);
        if bytes.expose().len() != KEY_BYTES {
            return Err(StoreError::BadKeyFile { path: path.to_owned(), bytes: bytes.expose().len() });
        }
        let key = RandomizedNonceKey::new(&AES_256_GCM, bytes.expose()).expect("32 bytes are an AES-256 key");
        Ok(Self(key))
    }

    /// `nonce | ciphertext | tag`; a sealed credential moved to another user's row does not open.
    pub(super) fn seal(&self, user: &str, credential: &Credential) -> Vec<u8> {
        let mut plain = credential.ha1_md5.expose().to_vec();
        plain.extend_from_slice(credential.ha1_sha256.expose());
        self.seal_bytes(user, plain)
    }

    /// `None`: sealed with another key or for another user, or damaged.
    pub(super) fn open(&self, user: &str, sealed: &[u8]) -> Option<Credential> {
        let plain = self.open_bytes(user, sealed)?;
        let (md5, sha256) = plain.expose().split_at_checked(MD5_BYTES)?;
        if sha256.len() != SHA256_BYTES {
            return None;
        }
        Some(Credential {
            ha1_md5: Secret::new(md5.try_into().ok()?),
            ha1_sha256: Secret::new(sha256.try_into().ok()?),
        })
    }

    /// A key of another purpose, which `name` tells from users: no user name has a colon.
    pub(super) fn seal_key(&self, name: &str, key: &Secret<[u8; KEY_BYTES]>) -> Vec<u8> {
        self.seal_bytes(&format!("key:{name}"), key.expose().to_vec())
    }

    pub(super) fn open_key(&self, name: &str, sealed: &[u8]) -> Option<Secret<[u8; KEY_BYTES]>> {
        let plain = self.open_bytes(&format!("key:{name}"), sealed)?;
        plain.expose().as_slice().try_into().ok().map(Secret::new)
    }

    /// An address of a user's own, by element.
    pub(super) fn seal_address(&self, user: &str, address: &PrivateAddress) -> Vec<u8> {
        let text = serde_json::to_vec(address.expose()).expect("texts by name are JSON");
        self.seal_bytes(&format!("address:{user}"), text)
    }

    pub(super) fn open_address(&self, user: &str, sealed: &[u8]) -> Option<PrivateAddress> {
        let plain = self.open_bytes(&format!("address:{user}"), sealed)?;
        serde_json::from_slice(plain.expose()).ok().map(Private::new)
    }

    /// Kept in the database, so that a wrong key is noticed before it seals anything.
    pub(super) fn proof(&self) -> Vec<u8> {
        self.seal_bytes("", PROOF.to_vec())
    }

    pub(super) fn is_proof(&self, sealed: &[u8]) -> bool {
        self.open_bytes("", sealed).is_some_and(|plain| plain.expose() == PROOF)
    }

    /// Encrypts `buffer` in place, so no copy of the plaintext stays behind.
    fn seal_bytes(&self, user: &str, mut buffer: Vec<u8>) -> Vec<u8> {
        let nonce = self
            .0
            .seal_in_place_append_tag(Aad::from(user), &mut buffer)
            .expect("a short plaintext is within the limits of AES-GCM");
        let mut sealed = nonce.as_ref().to_vec();
        sealed.append(&mut buffer);
        sealed
    }

    fn open_bytes(&self, user: &str, sealed: &[u8]) -> Option<Secret<Vec<u8>>> {
        let (nonce, text) = sealed.split_at_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut buffer = text.to_vec();
        let len = self.0.open_in_place(nonce, Aad::from(user), &mut buffer).ok()?.len();
        buffer.truncate(len);
        Some(Secret::new(buffer))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credential() -> Credential {
        Credential { ha1_md5: Secret::new([0xa5; 16]), ha1_sha256: Secret::new([0x5a; 32]) }
    }

    #[test]
    fn a_sealed_credential_opens_for_its_user_only() {
        let dir = tempfile::tempdir().unwrap();
        let key = SealKey::load(dir.path(), true).unwrap();
        let sealed = key.seal("alice", &credential());
        assert_eq!(key.open("alice", &sealed), Some(credential()));
        assert_eq!(key.open("bob", &sealed), None);
        assert!(!sealed.windows(8).any(|w| w == [0xa5; 8] || w == [0x5a; 8]));
    }

    #[test]
    fn every_flipped_bit_and_every_truncation_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let key = SealKey::load(dir.path(), true).unwrap();
        let sealed = key.seal("alice", &credential());
        for i in 0..sealed.len() {
            let mut flipped = sealed.clone();
            flipped[i] ^= 1;
            assert_eq!(key.open("alice", &flipped), None, "byte {i}");
            assert_eq!(key.open("alice", &sealed[..i]), None, "cut at {i}");
        }
    }

    #[test]
    fn sealing_twice_never_gives_the_same_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let key = SealKey::load(dir.path(), true).unwrap();
        assert_ne!(key.seal("alice", &credential()), key.seal("alice", &credential()));
    }

    #[test]
    fn the_key_is_created_only_where_nothing_was_sealed_yet() {
        let dir = tempfile::tempdir().unwrap();
        assert!(SealKey::load(dir.path(), false).is_err());
        let proof = SealKey::load(dir.path(), true).unwrap().proof();
        assert!(SealKey::load(dir.path(), false).unwrap().is_proof(&proof));
        let other = tempfile::tempdir().unwrap();
        assert!(!SealKey::load(other.path(), true).unwrap().is_proof(&proof));
    }

    #[test]
    fn a_key_of_the_wrong_length_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        files::write(&dir.path().join(KEY_FILE), &[1; 31]).unwrap();
        let Err(StoreError::BadKeyFile { bytes, .. }) = SealKey::load(dir.path(), false) else {
            panic!("31 bytes are no key");
        };
        assert_eq!(bytes, 31);
    }
}
