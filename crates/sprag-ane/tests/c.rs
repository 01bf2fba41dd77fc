//! The C interface: its header is the one that the code makes, and a client in C compiles, links and runs.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use sprag_measure::process;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn the_header_is_made_of_the_code() {
    let config = cbindgen::Config::from_file(root().join("cbindgen.toml")).unwrap();
    let made =
        cbindgen::Builder::new().with_src(root().join("src/c.rs")).with_config(config).generate().unwrap();
    let mut bytes = Vec::new();
    made.write(&mut bytes);
    let made = String::from_utf8(bytes).unwrap();
    let path = root().join("include/sprag_ane.h");
    if std::env::var_os("SPRAG_UPDATE").is_some() {
        std::fs::write(&path, &made).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == made,
        "include/sprag_ane.h is not what src/c.rs makes: run this test with SPRAG_UPDATE=1"
    );
}

/// Where the shared library of this build is: beside this test, or one folder up.
fn library() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let name = format!("{}sprag_ane{}", std::env::consts::DLL_PREFIX, std::env::consts::DLL_SUFFIX);
    let folders = own.ancestors().skip(1).take(2);
    let found = folders.map(|folder| folder.join(&name)).find(|path| path.is_file());
    found.unwrap_or_else(|| panic!("{name} was not built beside {}", own.display()))
}

#[test]
fn a_client_in_c_compiles_links_and_runs() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("client");
    let library = library();
    let place = library.parent().unwrap();
    let words: Vec<OsString> = [
        "-std=c11".into(),
        "-Wall".into(),
        "-Wextra".into(),
        "-Werror".into(),
        "-I".into(),
        root().join("include").into(),
        root().join("tests/c/client.c").into(),
        "-o".into(),
        program.clone().into(),
        "-L".into(),
        place.into(),
        "-lsprag_ane".into(),
        format!("-Wl,-rpath,{}", place.display()).into(),
        "-lm".into(),
    ]
    .into();
    #[expect(clippy::disallowed_methods, reason = "a test is started by a person, whose compiler is used")]
    let mut environment: Vec<(OsString, OsString)> = std::env::vars_os().collect();
    // Cargo puts the folder of earlier builds there, before the one that the client was linked with.
    environment.retain(|(name, _)| name != "LD_LIBRARY_PATH" && name != "DYLD_FALLBACK_LIBRARY_PATH");
    let built = process::output("cc", words, folder.path(), &environment).unwrap();
    assert!(built.success(), "{}", built.error_text());
    let none: [OsString; 0] = [];
    let ran = process::output(&program, none, folder.path(), &environment).unwrap();
    assert!(ran.success(), "{}", ran.error_text());
    assert_eq!(ran.text(), "done");
}
