//! What the configuration reads from disk: itself, TLS files.

use std::fs;
use std::path::{Path, PathBuf};

use super::REGISTRY;
use crate::{Access, Errors, Loaded, load};

/// A directory that is gone afterwards.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("sluicegate-config-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Directory(path)
    }

    fn load(&self, content: &[u8]) -> Result<Loaded, Errors> {
        fs::create_dir_all(self.0.join("etc")).unwrap();
        fs::write(self.0.join("etc/gate.yaml"), content).unwrap();
        load(Some(Path::new("etc/gate.yaml")), [], &self.0, &REGISTRY)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn paths_are_relative_to_the_file() {
    let directory = Directory::new("tls");
    fs::create_dir_all(directory.0.join("etc")).unwrap();
    for name in ["server.pem", "server.key", "ca.pem"] {
        fs::write(directory.0.join("etc").join(name), "").unwrap();
    }
    let loaded = directory
        .load(
            b"listen: {admin: [{address: 0.0.0.0:8001, tls: {cert: server.pem, key: server.key, client_ca: ca.pem}}]}",
        )
        .unwrap();
    let admin = &loaded.settings.listen.admin[0];
    assert_eq!(admin.access(), Access::ClientCertificate);
    let tls = admin.tls.as_ref().unwrap();
    assert_eq!((&tls.cert, &tls.key), (&directory.0.join("etc/server.pem"), &directory.0.join("etc/server.key")));
    assert_eq!(loaded.settings.storage.path, directory.0.join("sluicegate-data"));
    let mixed = directory
        .load(b"listen: {http: [127.0.0.1:0, {address: 0.0.0.0:8443, tls: {cert: server.pem, key: server.key}}]}")
        .unwrap();
    let tls: Vec<bool> = mixed.settings.listen.http.iter().map(|listener| listener.tls.is_some()).collect();
    assert_eq!(tls, [false, true], "a plain listener and one of TLS stand side by side");
    let missing = directory.load(b"listen: {http: [{address: 0.0.0.0:0, tls: {cert: no.pem, key: server.key}}]}");
    assert_eq!(missing.unwrap_err().count(), 1);
}

#[test]
fn bytes_that_are_not_text_and_directories_are_errors() {
    let directory = Directory::new("bytes");
    let errors = directory.load(b"listen: {}\n# caf\xe9\n").unwrap_err();
    assert_eq!(errors.iter().next().unwrap().message, "cannot be read: it is not UTF-8 text (line 2)");
    let errors = load(Some(Path::new("etc")), [], &directory.0, &REGISTRY).unwrap_err();
    assert_eq!(errors.iter().next().unwrap().message, "cannot be read: it is a directory");
}

#[test]
fn line_ends_and_byte_order_marks_of_other_systems_are_fine() {
    let directory = Directory::new("crlf");
    let loaded = directory.load(b"\xef\xbb\xbflisten:\r\n  http: [127.0.0.1:81]\r\n").unwrap();
    assert_eq!(loaded.settings.listen.http[0].address.port(), 81);
    let shown = directory.load(b"listen:\r\n  htpp: []\r\n").unwrap_err().to_string();
    assert!(shown.starts_with("etc/gate.yaml:2:3: unknown key `htpp`") && !shown.contains('\r'), "{shown}");
}
