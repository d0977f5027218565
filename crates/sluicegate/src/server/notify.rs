//! What systemd is told of this process (`sd_notify(3)`), if it started it and wants to know.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Everything is served.
pub(super) fn ready() {
    tell("READY=1");
}

/// The process is about to end.
pub(super) fn stopping() {
    tell("STOPPING=1");
}

/// The service is another process from now on.
pub(super) fn main_pid(pid: u32) {
    tell(&format!("MAINPID={pid}"));
}

fn tell(state: &str) {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return };
    if let Err(error) = send(path.as_bytes(), state) {
        tracing::warn!(%error, state, "systemd could not be told");
    }
}

fn send(path: &[u8], state: &str) -> io::Result<()> {
    let address = match path.strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(path))?,
    };
    UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_arrive_at_sockets_with_and_without_a_file() {
        let name = format!("sluicegate-notify-{}", std::process::id());
        let file = std::env::temp_dir().join(&name);
        let _ = std::fs::remove_file(&file);
        let of_file = UnixDatagram::bind(&file).unwrap();
        let of_name = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        send(file.as_os_str().as_bytes(), "READY=1").unwrap();
        send(format!("@{name}").as_bytes(), "MAINPID=7").unwrap();
        let mut buffer = [0; 64];
        let mut heard = |socket: &UnixDatagram| {
            let n_bytes = socket.recv(&mut buffer).unwrap();
            String::from_utf8_lossy(&buffer[..n_bytes]).into_owned()
        };
        assert_eq!((heard(&of_file), heard(&of_name)), ("READY=1".to_owned(), "MAINPID=7".to_owned()));
        std::fs::remove_file(&file).unwrap();
    }
}
