use std::os::unix::fs::PermissionsExt as _;

use super::*;

const CHEAP: u32 = 8;

fn passphrases(directory: &Path, text: &str) -> Passphrases {
    let path = directory.join("passphrase");
    std::fs::write(&path, text).unwrap();
    Passphrases::find(Some(&path))
}

fn sealed(directory: &Path) -> (PathBuf, SigningKey) {
    let (path, key) = (directory.join("x.key"), SigningKey::generate().unwrap());
    let passphrase = passphrases(directory, "correct horse\n").choose().unwrap();
    KeyFile::write(&path, &key, &Seal::Passphrase(passphrase, Cost::of_memory(CHEAP))).unwrap();
    (path, key)
}

#[test]
fn a_sealed_key_names_itself_and_opens_with_its_passphrase_alone() {
    let directory = tempfile::tempdir().unwrap();
    let (path, key) = sealed(directory.path());
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let text = std::fs::read_to_string(&path).unwrap();
    let secret = key.to_pem();
    assert!(!text.contains(secret.lines().nth(1).unwrap()) && !text.contains("PRIVATE"));
    let file = KeyFile::read(&path).unwrap();
    assert_eq!((file.public(), file.cost()), (&key.public(), Some(Cost::of_memory(CHEAP))));
    let opened = file.open(&passphrases(directory.path(), "correct horse")).unwrap();
    assert_eq!(opened.to_pem(), secret);
    let wrong = file.open(&passphrases(directory.path(), "wrong horse")).unwrap_err();
    assert!(matches!(wrong, OwnerError::WrongPassphrase { .. }), "{wrong}");
    let none = file.open(&Passphrases::none()).unwrap_err();
    assert!(none.to_string().contains("--passphrase-file"), "{none}");
}

#[test]
fn a_plain_key_from_before_needs_no_passphrase() {
    let directory = tempfile::tempdir().unwrap();
    let (path, key) = (directory.path().join("x.key"), SigningKey::generate().unwrap());
    std::fs::write(&path, key.to_pem()).unwrap();
    let file = KeyFile::read(&path).unwrap();
    assert_eq!((file.public(), file.cost()), (&key.public(), None));
    assert_eq!(file.open(&Passphrases::none()).unwrap().to_pem(), key.to_pem());
}

#[test]
fn a_header_that_was_changed_opens_nothing_and_one_that_asks_for_too_much_is_refused_unread() {
    let directory = tempfile::tempdir().unwrap();
    let (path, _) = sealed(directory.path());
    let text = std::fs::read_to_string(&path).unwrap();
    let other = SigningKey::generate().unwrap().public().to_string();
    let right = KeyFile::read(&path).unwrap().public().to_string();
    std::fs::write(&path, text.replace(&right, &other)).unwrap();
    let error = KeyFile::read(&path).unwrap().open(&passphrases(directory.path(), "correct horse")).unwrap_err();
    assert!(matches!(error, OwnerError::WrongPassphrase { .. }), "{error}");
    for (from, to) in [
        ("\"memory_kib\": 8", "\"memory_kib\": 4294967295"),
        ("\"memory_kib\": 8", "\"memory_kib\": 262145"),
        ("\"memory_kib\": 8", "\"memory_kib\": 0"),
        ("\"passes\": 1", "\"passes\": 17"),
        ("\"passes\": 1", "\"passes\": 0"),
        ("argon2id", "md5"),
        ("orangery-key-1", "orangery-key-9"),
        ("\"cost\"", "\"price\""),
    ] {
        let changed = text.replace(from, to);
        assert_ne!(changed, text, "{from}");
        std::fs::write(&path, changed).unwrap();
        let error = KeyFile::read(&path).unwrap_err();
        assert!(matches!(error, OwnerError::KeyFile { .. }), "{from}: {error}");
    }
    std::fs::write(&path, "x".repeat(20_000)).unwrap();
    assert!(matches!(KeyFile::read(&path).unwrap_err(), OwnerError::KeyFile { .. }));
}

#[test]
fn a_new_passphrase_has_a_length() {
    let directory = tempfile::tempdir().unwrap();
    for bad in ["", "\n", "short", &"x".repeat(2_000)] {
        assert!(passphrases(directory.path(), bad).choose().is_err(), "{bad:?}");
    }
    let shown = format!("{:?}", passphrases(directory.path(), "correct horse").choose().unwrap());
    assert!(!shown.contains("horse"));
}
