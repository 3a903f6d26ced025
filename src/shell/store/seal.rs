//! Credentials at rest: AES-256-GCM under a key that does not lie in the database.
//!
//! A digest credential is as good as the password for this server, so a copied database file must not give it away. Every
//! sealed value begins with the id of its key. A rotation writes the new key beside the old one before anything is sealed
//! with it, and the old one goes only when the database is on disk under the new: there is no moment at which a crash
//! leaves a database without its key. What it has put beside goes last, so that whoever opens the database next sees that
//! it was cut short, and ends it.

use std::{
    fs,
    io::ErrorKind,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey},
    digest,
};

use crate::{
    config::PrivateAddress,
    shell::{entropy, files},
    types::{Private, Secret},
    wire::sip::digest::Credential,
};

use super::StoreError;

/// Name of the systemd credential that holds the key (`LoadCredentialEncrypted=`).
pub(super) const SYSTEMD_CREDENTIAL: &str = "ringdown-seal-key";
const KEY_FILE: &str = "seal.key";
/// The key that takes the place of the present one.
const NEXT_KEY_FILE: &str = "seal.key.next";
/// The present one meanwhile, if it lay there itself: it does until the systemd credential holds it.
const LAST_KEY_FILE: &str = "seal.key.last";
const KEY_BYTES: usize = 32;
const MD5_BYTES: usize = 16;
const SHA256_BYTES: usize = 32;
/// What [`SealKey::proof`] seals.
const PROOF: &[u8] = b"ringdown seal proof";
/// Nobody but the owner.
const FOREIGN_BITS: u32 = 0o077;
/// systemd gives the service its credentials by an access list, whose mask stands where the group's rights do.
const FOREIGN_BITS_OF_CREDENTIALS: u32 = 0o007;

/// First bytes of the key's SHA-256: it names the key and tells nothing of it.
pub(super) type KeyId = [u8; 8];

/// Where somebody else keeps the key: it is read there, and only the operator can put another one there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Given {
    /// The service manager's.
    Credential(PathBuf),
    /// That of `server.seal_key`.
    File(PathBuf),
}

impl Given {
    fn path(&self) -> &Path {
        match self {
            Self::Credential(path) | Self::File(path) => path,
        }
    }
}

/// Where keys lie.
#[derive(Debug)]
pub(super) struct KeyFiles {
    given: Option<Given>,
    own: PathBuf,
    next: PathBuf,
    last: PathBuf,
}

impl KeyFiles {
    /// The systemd credential, if there is one, else the file that the configuration names; and the files of the state folder.
    pub(super) fn of(state_dir: &Path, named: Option<&Path>) -> Self {
        let folder = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
        let credential = folder.map(|folder| folder.join(SYSTEMD_CREDENTIAL)).filter(|path| path.exists());
        let named = || named.map(|path| Given::File(path.to_owned()));
        Self::new(state_dir, credential.map(Given::Credential).or_else(named))
    }

    fn new(state_dir: &Path, given: Option<Given>) -> Self {
        let [own, next, last] = [KEY_FILE, NEXT_KEY_FILE, LAST_KEY_FILE].map(|name| state_dir.join(name));
        Self { given, own, next, last }
    }

    fn given_path(&self) -> Option<&Path> {
        self.given.as_ref().map(Given::path)
    }

    /// The key of a database in which nothing is sealed yet; made where there is none, unless somebody else keeps it.
    pub(super) fn first(&self) -> Result<SealKey, StoreError> {
        if let Some(given) = self.given_path() {
            return self.read(given);
        }
        if !self.own.exists() {
            make(&self.own)?;
        }
        self.read(&self.own)
    }

    /// The key that `fits`, wherever it lies. The next one is looked for before the own and the last: where it is gone, it
    /// has just become one of them.
    pub(super) fn find(&self, fits: impl Fn(&SealKey) -> bool) -> Result<SealKey, StoreError> {
        let mut has_others = false;
        for path in self.given_path().into_iter().chain([&*self.next, &*self.own, &*self.last]) {
            match self.read(path) {
                Ok(key) if fits(&key) => return Ok(key),
                Ok(_) => has_others = true,
                Err(StoreError::File { error, .. } | StoreError::NamedKey { error, .. })
                    if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Err(if has_others { StoreError::WrongKey } else { self.missing() })
    }

    fn missing(&self) -> StoreError {
        StoreError::KeyMissing { path: self.given_path().unwrap_or(&self.own).to_owned() }
    }

    /// Makes the key that takes the place of `present`, which stays where it can be found.
    pub(super) fn make_next(&self, present: &SealKey) -> Result<SealKey, StoreError> {
        if self.place_of(present)? == self.next {
            copy(&self.next, &self.last)?;
        }
        make(&self.next)?;
        self.read(&self.next)
    }

    /// Puts the key of the database where it belongs. Only under the database's lock, as [`Self::clear`]: a rotation of another
    /// process must not lose its key.
    pub(super) fn settle(&self, key: &SealKey) -> Result<(), StoreError> {
        // Only the operator can put it where somebody else keeps it.
        let home = if self.given.is_some() { &self.next } else { &self.own };
        match self.place_of(key)? {
            place if place != home && (place == self.next || place == self.last) => copy(place, home),
            _ => Ok(()),
        }
    }

    /// Whether a rotation has left something: it was cut short, or the credential does not hold its key yet.
    pub(super) fn is_rotation_left(&self) -> bool {
        self.left_over().iter().any(|path| path.exists())
    }

    /// Removes what a rotation has left, but for the key of the database.
    pub(super) fn clear(&self, key: &SealKey) -> Result<(), StoreError> {
        let place = self.place_of(key)?;
        for path in self.left_over().iter().filter(|path| *path != place) {
            match fs::remove_file(path) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(StoreError::file(path, &error)),
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }

    /// Files of a rotation, and those in which a key may have been written by half.
    fn left_over(&self) -> [PathBuf; 5] {
        let [own, next, last] = [&self.own, &self.next, &self.last].map(|path| files::temporary_beside(path));
        [self.next.clone(), self.last.clone(), own, next, last]
    }

    /// The file that holds this key.
    pub(super) fn place_of(&self, key: &SealKey) -> Result<&Path, StoreError> {
        let holds = |path: &&Path| self.read(path).is_ok_and(|held| held.id == key.id);
        let own = [&*self.own, &*self.next, &*self.last];
        self.given_path().into_iter().chain(own).find(holds).ok_or_else(|| self.missing())
    }

    /// Who has another key and must be given this one.
    pub(super) fn awaits(&self, key: &SealKey) -> Result<Option<&Given>, StoreError> {
        let is_next = self.place_of(key)? == self.next;
        Ok(self.given.as_ref().filter(|_| is_next))
    }

    fn read(&self, path: &Path) -> Result<SealKey, StoreError> {
        let given = self.given.as_ref().filter(|given| given.path() == path);
        let foreign = match given {
            Some(Given::Credential(_)) => FOREIGN_BITS_OF_CREDENTIALS,
            Some(Given::File(_)) | None => FOREIGN_BITS,
        };
        let unreadable = |error: std::io::Error| match given {
            Some(Given::File(_)) => StoreError::NamedKey { path: path.to_owned(), error },
            Some(Given::Credential(_)) | None => StoreError::file(path, &error),
        };
        let mode = fs::metadata(path).map_err(unreadable)?.permissions().mode();
        if mode & foreign != 0 {
            return Err(StoreError::OpenKeyFile { path: path.to_owned(), mode: mode & 0o777 });
        }
        let bytes = Secret::new(fs::read(path).map_err(unreadable)?);
        SealKey::new(bytes.expose())
            .ok_or_else(|| StoreError::BadKeyFile { path: path.to_owned(), bytes: bytes.expose().len() })
    }
}

fn make(path: &Path) -> Result<(), StoreError> {
    let key = Secret::new(entropy::rng().bytes::<KEY_BYTES>());
    files::write(path, key.expose()).map_err(|e| StoreError::file(path, &e))
}

fn copy(from: &Path, to: &Path) -> Result<(), StoreError> {
    let key = Secret::new(fs::read(from).map_err(|e| StoreError::file(from, &e))?);
    files::write(to, key.expose()).map_err(|e| StoreError::file(to, &e))
}

/// The sealing key. A sealed value is the key's id, a fresh random nonce, the ciphertext and its tag.
pub(super) struct SealKey {
    id: KeyId,
    key: RandomizedNonceKey,
}

impl SealKey {
    fn new(bytes: &[u8]) -> Option<Self> {
        let key = RandomizedNonceKey::new(&AES_256_GCM, bytes).ok()?;
        let id = digest::digest(&digest::SHA256, bytes).as_ref().first_chunk().copied()?;
        Some(Self { id, key })
    }

    pub(super) const fn id(&self) -> &KeyId {
        &self.id
    }

    /// A sealed credential moved to another user's row does not open.
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

    /// The same as a version sealed it that knew of one key only.
    pub(super) fn is_proof_without_id(&self, sealed: &[u8]) -> bool {
        self.is_proof(&self.with_id(sealed))
    }

    /// A value that such a version has sealed.
    pub(super) fn with_id(&self, sealed: &[u8]) -> Vec<u8> {
        [&self.id, sealed].concat()
    }

    /// The same value under another key.
    pub(super) fn reseal(&self, owner: &str, sealed: &[u8], new: &Self) -> Option<Vec<u8>> {
        let plain = self.open_bytes(owner, sealed)?;
        Some(new.seal_bytes(owner, plain.expose().clone()))
    }

    /// Encrypts `buffer` in place, so no copy of the plaintext stays behind.
    fn seal_bytes(&self, owner: &str, mut buffer: Vec<u8>) -> Vec<u8> {
        let nonce = self
            .key
            .seal_in_place_append_tag(Aad::from(owner), &mut buffer)
            .expect("a short plaintext is within the limits of AES-GCM");
        let mut sealed = self.with_id(nonce.as_ref());
        sealed.append(&mut buffer);
        sealed
    }

    fn open_bytes(&self, owner: &str, sealed: &[u8]) -> Option<Secret<Vec<u8>>> {
        let (nonce, text) = sealed.strip_prefix(&self.id)?.split_at_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut buffer = text.to_vec();
        let len = self.key.open_in_place(nonce, Aad::from(owner), &mut buffer).ok()?.len();
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

    fn key(byte: u8) -> SealKey {
        SealKey::new(&[byte; KEY_BYTES]).unwrap()
    }

    #[test]
    fn a_sealed_credential_opens_for_its_user_and_with_its_key_only() {
        let key_one = key(1);
        let sealed = key_one.seal("alice", &credential());
        assert_eq!(key_one.open("alice", &sealed), Some(credential()));
        assert_eq!(key_one.open("bob", &sealed), None);
        assert_eq!(key(2).open("alice", &sealed), None);
        assert!(!sealed.windows(8).any(|w| w == [0xa5; 8] || w == [0x5a; 8]));
    }

    #[test]
    fn a_value_names_its_key_and_moves_to_another() {
        let (old, new) = (key(1), key(2));
        let sealed = old.seal("alice", &credential());
        assert!(sealed.starts_with(old.id()) && old.id() != new.id());
        let moved = old.reseal("alice", &sealed, &new).unwrap();
        assert!(moved.starts_with(new.id()));
        assert_eq!(new.open("alice", &moved), Some(credential()));
        assert_eq!(old.reseal("bob", &sealed, &new), None);
    }

    #[test]
    fn every_flipped_bit_and_every_truncation_is_noticed() {
        let key = key(1);
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
        assert_ne!(key(1).seal("alice", &credential()), key(1).seal("alice", &credential()));
    }

    fn write(path: &Path, byte: u8, mode: u32) {
        files::write(path, &[byte; KEY_BYTES]).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_key_is_made_only_for_a_database_in_which_nothing_is_sealed() {
        let dir = tempfile::tempdir().unwrap();
        let files = KeyFiles::new(dir.path(), None);
        assert!(matches!(files.find(|_| true), Err(StoreError::KeyMissing { .. })));
        let proof = files.first().unwrap().proof();
        assert_eq!(files.first().unwrap().id(), files.find(|key| key.is_proof(&proof)).unwrap().id());
        assert!(matches!(files.find(|_| false), Err(StoreError::WrongKey)));
    }

    #[test]
    fn a_credential_of_the_service_manager_is_taken_before_any_file() {
        let dir = tempfile::tempdir().unwrap();
        let credential = dir.path().join(SYSTEMD_CREDENTIAL);
        // As systemd leaves it: read by the service through an access list.
        write(&credential, 1, 0o440);
        write(&dir.path().join(KEY_FILE), 2, 0o600);
        let files = KeyFiles::new(dir.path(), Some(Given::Credential(credential.clone())));
        assert_eq!(files.first().unwrap().id(), key(1).id());
        assert_eq!(files.place_of(&key(1)).unwrap(), credential);
        assert_eq!(files.find(|found| found.id() == key(2).id()).unwrap().id(), key(2).id());
    }

    #[test]
    fn a_key_that_the_configuration_names_lies_there_alone_and_is_never_made() {
        let dir = tempfile::tempdir().unwrap();
        let named = dir.path().join("elsewhere.key");
        let files = KeyFiles::new(dir.path(), Some(Given::File(named.clone())));
        let error = files.first().err().unwrap();
        assert!(matches!(error, StoreError::NamedKey { .. }), "{error}");
        assert!(error.to_string().contains("server.seal_key") && error.to_string().contains("head -c 32"), "{error}");
        let error = files.find(|_| true).err().unwrap();
        assert!(matches!(&error, StoreError::KeyMissing { path } if *path == named), "{error}");
        write(&named, 1, 0o440);
        assert!(matches!(files.first(), Err(StoreError::OpenKeyFile { .. })), "it is no credential");
        write(&named, 1, 0o600);
        assert_eq!(files.first().unwrap().id(), key(1).id());
        let next = files.make_next(&key(1)).unwrap();
        files.settle(&next).unwrap();
        assert_eq!(files.awaits(&next).unwrap(), Some(&Given::File(named)));
        assert!(!files.own.exists());
    }

    #[test]
    fn a_key_that_others_can_read_is_refused_with_the_remedy() {
        let dir = tempfile::tempdir().unwrap();
        let files = KeyFiles::new(dir.path(), None);
        for mode in [0o640, 0o604, 0o660] {
            write(&files.own, 1, mode);
            let error = files.first().err().unwrap();
            assert!(matches!(error, StoreError::OpenKeyFile { .. }), "{error}");
            assert!(error.to_string().contains("chmod 600") && error.to_string().contains("keys rotate"), "{error}");
        }
        write(&files.own, 1, 0o400);
        files.first().unwrap();
        let credential = dir.path().join(SYSTEMD_CREDENTIAL);
        write(&credential, 1, 0o444);
        assert!(KeyFiles::new(dir.path(), Some(Given::Credential(credential))).first().is_err());
    }

    #[test]
    fn the_next_key_becomes_the_own_one_and_a_left_over_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let files = KeyFiles::new(dir.path(), None);
        for (next, settled) in [(2, 2), (3, 2)] {
            write(&files.own, 1, 0o600);
            write(&files.next, next, 0o600);
            let of_database = if next == settled { key(settled) } else { key(1) };
            files.settle(&of_database).unwrap();
            assert_eq!(files.first().unwrap().id(), of_database.id());
            assert!(files.is_rotation_left());
            files.clear(&of_database).unwrap();
            assert!(!files.is_rotation_left() && !files.next.exists());
        }
    }

    #[test]
    fn the_next_key_waits_until_the_credential_holds_it() {
        let dir = tempfile::tempdir().unwrap();
        let credential = dir.path().join(SYSTEMD_CREDENTIAL);
        write(&credential, 1, 0o400);
        let files = KeyFiles::new(dir.path(), Some(Given::Credential(credential.clone())));
        write(&files.next, 2, 0o600);
        let settle = |of_database: &SealKey| {
            files.settle(of_database).unwrap();
            files.clear(of_database).unwrap();
        };
        settle(&key(2));
        assert_eq!(files.place_of(&key(2)).unwrap(), files.next);
        assert!(!files.own.exists());
        write(&credential, 2, 0o400);
        settle(&key(2));
        assert!(!files.is_rotation_left());
        assert_eq!(files.place_of(&key(2)).unwrap(), credential);
    }

    /// Goal: who rotates again before the credential holds the first new key loses neither, whether the second comes to its end
    /// or not.
    #[test]
    fn a_key_that_waits_for_the_credential_is_kept_until_the_database_has_the_one_after_it() {
        for is_rotated in [true, false] {
            let dir = tempfile::tempdir().unwrap();
            let credential = dir.path().join(SYSTEMD_CREDENTIAL);
            write(&credential, 1, 0o400);
            let files = KeyFiles::new(dir.path(), Some(Given::Credential(credential)));
            write(&files.next, 2, 0o600);
            let keys = [key(2), files.make_next(&key(2)).unwrap()];
            for wanted in &keys {
                files.find(|found| found.id() == wanted.id()).unwrap();
            }
            let of_database = &keys[usize::from(is_rotated)];
            files.settle(of_database).unwrap();
            files.clear(of_database).unwrap();
            assert_eq!(files.place_of(of_database).unwrap(), files.next);
            assert!(files.awaits(of_database).unwrap().is_some() && !files.last.exists() && !files.own.exists());
        }
    }

    #[test]
    fn a_key_of_the_wrong_length_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        files::write(&dir.path().join(KEY_FILE), &[1; 31]).unwrap();
        let Err(StoreError::BadKeyFile { bytes, .. }) = KeyFiles::new(dir.path(), None).first() else {
            panic!("31 bytes are no key");
        };
        assert_eq!(bytes, 31);
    }
}
