//! What campaigns left behind, through the functions that they ran.

use std::path::Path;

/// Every file of a corpus, in the order of their names.
fn replay(name: &str, target: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/corpus")
        .join(name);
    let files = std::fs::read_dir(&folder).expect("a corpus");
    let mut files: Vec<_> = files.map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    assert!(
        files.len() > 10,
        "{} files in {}",
        files.len(),
        folder.display()
    );
    for file in files {
        let input = std::fs::read(&file).expect("a file");
        // A panic names the input and not the file.
        let name = file.file_name().unwrap_or_default().to_owned();
        let held = std::panic::catch_unwind(|| target(&input));
        assert!(held.is_ok(), "{name:?}");
    }
}

macro_rules! corpora {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            replay(stringify!($name), super::super::$name);
        })*
    };
}

corpora! { authorization claim_to_header config dpop introspection jwks jwt proxy_header target whole_proxy }
