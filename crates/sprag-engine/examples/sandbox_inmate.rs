//! A program that tries what a sandbox must stop, for this crate's tests; prints `ok` or the error's number.

use std::fs;
use std::io;
use std::net::{TcpListener, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::Path;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let argument = |index: usize| arguments.get(index).map_or("", String::as_str);
    let result = attempt(argument(0), argument(1), argument(2));
    match result {
        Ok(()) => println!("ok"),
        Err(error) => println!("error {}", error.raw_os_error().unwrap_or(0)),
    }
}

fn attempt(what: &str, path: &str, other: &str) -> io::Result<()> {
    match what {
        "tcp" => TcpListener::bind("127.0.0.1:0").map(drop),
        "udp" => UdpSocket::bind("[::1]:0").map(drop),
        "unix-listen" => UnixListener::bind(path).map(drop),
        "unix-pair" => UnixStream::pair().map(drop),
        "unix-datagram-pair" => UnixDatagram::pair().map(drop),
        "read" => fs::read(path).map(drop),
        "list" => fs::read_dir(path).map(drop),
        "write" => fs::write(path, "written"),
        "append" => fs::OpenOptions::new().append(true).open(path).map(drop),
        "truncate" => fs::OpenOptions::new().write(true).truncate(true).open(path).map(drop),
        "remove" => fs::remove_file(path),
        "make-folder" => fs::create_dir(path),
        "change-mode" => fs::set_permissions(Path::new(path), fs::Permissions::from_mode(0o666)),
        "rename" => fs::rename(path, other),
        "hard-link" => fs::hard_link(path, other),
        "symbolic-link" => std::os::unix::fs::symlink(path, other),
        "thread" => std::thread::Builder::new().spawn(|| ()).map(drop),
        _ => Err(io::ErrorKind::InvalidInput.into()),
    }
}
