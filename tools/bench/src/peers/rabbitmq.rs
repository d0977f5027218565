//! RabbitMQ as Debian packages it: a private single node, no plugins, everything of it under one directory.
//!
//! The server script is started directly, not through Debian's wrapper, which would switch to the user `rabbitmq`.
//! The node has a name server (epmd) of its own, on a port of its own, so an installed broker is not disturbed.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use super::process::{Process, guarded};
use super::{find_program, free_address, fresh_dir};
use crate::client::connection::Connection;
use crate::error::{Context, Error, Result};

const SERVER: &str = "/usr/lib/rabbitmq/bin/rabbitmq-server";
const START_PATIENCE: Duration = Duration::from_secs(90);
/// Between two attempts to connect; a handshake is attempted only once the port answers.
const POLL: Duration = Duration::from_millis(20);
const NODE_NAME: &str = "sluicegate-bench@localhost";

/// A running node.
pub(crate) struct RabbitMq {
    // Dropped in this order: the node before its name server.
    node: Process,
    _name_server: Process,
    /// Where it serves AMQP.
    pub(crate) amqp: SocketAddr,
    /// From start to the first completed AMQP handshake.
    pub(crate) ready_after: Duration,
}

/// Whether the package is installed.
pub(crate) fn is_installed() -> bool {
    Path::new(SERVER).is_file()
}

impl RabbitMq {
    /// Starts a node with an empty database under `dir`.
    pub(crate) fn start(dir: &Path) -> Result<Self> {
        fresh_dir(dir)?;
        let dir = dir.canonicalize()?;
        let name_server_port = free_address()?.port();
        let name_server = start_name_server(&dir, name_server_port)?;
        let amqp = free_address()?;
        write_config(&dir, amqp)?;
        let mut command = node_command(&dir, name_server_port)?;
        let mut node = Process::start("RabbitMQ", &mut command, &dir.join("rabbitmq.log"))?;
        let ready_after = node.wait_ready(START_PATIENCE, || {
            let ready = Connection::open(amqp).and_then(Connection::close).is_ok();
            if !ready {
                thread::sleep(POLL);
            }
            ready
        })?;
        Ok(Self { node, _name_server: name_server, amqp, ready_after })
    }

    /// The root of its process tree.
    pub(crate) fn id(&self) -> u32 {
        self.node.id()
    }
}

fn start_name_server(dir: &Path, port: u16) -> Result<Process> {
    let epmd = find_program("epmd").ok_or_else(|| Error::new("epmd, which Erlang brings, is not installed"))?;
    let mut command = guarded(epmd);
    command.args(["-address", "127.0.0.1", "-port"]).arg(port.to_string());
    let mut process = Process::start("epmd", &mut command, &dir.join("epmd.log"))?;
    process.wait_ready(Duration::from_secs(5), || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok())?;
    Ok(process)
}

fn write_config(dir: &Path, amqp: SocketAddr) -> Result<()> {
    let settings = format!("listeners.tcp.1 = {amqp}\nlog.console = false\nlog.file.level = warning\n");
    let files = [("rabbitmq.conf", settings.as_str()), ("enabled_plugins", "[].\n"), ("environment.conf", "")];
    for (name, text) in files {
        fs::write(dir.join(name), text).context(format_args!("write RabbitMQ's {name}"))?;
    }
    Ok(())
}

fn node_command(dir: &Path, name_server_port: u16) -> Result<Command> {
    let path = |name: &str| -> PathBuf { dir.join(name) };
    let mut command = guarded(SERVER);
    // Whatever the environment says about another node must not reach this one.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("RABBITMQ_") {
            command.env_remove(name);
        }
    }
    command
        .env("HOME", dir)
        .env("ERL_EPMD_PORT", name_server_port.to_string())
        .env("RABBITMQ_NODENAME", NODE_NAME)
        .env("RABBITMQ_DIST_PORT", free_address()?.port().to_string())
        .env("RABBITMQ_CONF_ENV_FILE", path("environment.conf"))
        .env("RABBITMQ_CONFIG_FILE", path("rabbitmq.conf"))
        .env("RABBITMQ_ADVANCED_CONFIG_FILE", path("advanced.config"))
        .env("RABBITMQ_ENABLED_PLUGINS_FILE", path("enabled_plugins"))
        .env("RABBITMQ_MNESIA_BASE", path("mnesia"))
        .env("RABBITMQ_LOG_BASE", path("log"))
        .env("RABBITMQ_PID_FILE", path("pid"))
        .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "-kernel inet_dist_use_interface {127,0,0,1}");
    Ok(command)
}
