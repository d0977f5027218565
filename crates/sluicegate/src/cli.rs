//! The command line. Names here are promises: scripts use them.

use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

/// An API gateway and a durable message broker in one binary.
#[derive(Debug, Parser)]
#[command(
    name = "sluicegate",
    version,
    about,
    after_help = "\
Start here:
  sluicegate run                        with built-in defaults, data in ./sluicegate-data
  sluicegate publish orders 'hello'     put a message into a queue
  sluicegate consume orders --count 1   take it out
  sluicegate queues                     what is where

Any setting can come from the environment: SLUICEGATE_LISTEN__AMQP=127.0.0.1:5673 (two underscores go one level
down, lists are separated by commas)."
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the server until SIGTERM or Ctrl-C; SIGHUP reloads the configuration, SIGUSR2 upgrades the binary
    #[command(after_help = "\
Without CONFIG it reads ./sluicegate.yaml if there is one, else it uses built-in defaults.
When it is ready it says so on stderr, and GET /status/ready on the admin listener answers 200.
SIGTERM drains: nothing new is accepted, what is in flight ends, everything is synced, exit 0.
SIGHUP reads CONFIG again; a bad one is reported and the old one stays in force.
SIGUSR2 starts the program that is now at the path this one was started by, with the same arguments, and hands the
listening sockets over to it: no connection is refused, and requests to queues wait until the new process has opened the
data directory. If it does not become ready, this one goes on.")]
    Run(RunArgs),
    /// Check a configuration file: exit 0, or 1 with every mistake in it
    #[command(after_help = "\
Each mistake is shown with file:line:column, the line itself, and what was expected. Environment variables that
override settings, and the files the configuration names, are checked too. Nothing is started or changed.")]
    Check {
        /// The configuration file
        config: PathBuf,
        /// Print the mistakes as JSON
        #[arg(long)]
        json: bool,
    },
    /// Publish a message over AMQP and wait until the server says it is safe
    #[command(after_help = "\
Examples:
  sluicegate publish orders '{\"item\": \"book\"}' --content-type application/json
  echo hello | sluicegate publish orders -
  sluicegate publish --exchange events user.created '{}'")]
    Publish(PublishArgs),
    /// Consume messages of a queue over AMQP and print them
    #[command(after_help = "\
Examples:
  sluicegate consume orders                   until Ctrl-C
  sluicegate consume orders --count 1 --json  one message, as a JSON object with all its properties")]
    Consume(ConsumeArgs),
    /// List the queues, over the management API
    Queues(QueuesArgs),
    /// Look for damage in a data directory and, with --apply, move it to quarantine
    #[command(after_help = "\
A directory with damage in front of its end is refused by `run`. Without --apply nothing is changed: it says which bytes
are damaged and which queues they belong to, and exits 1. With --apply these bytes move to the directory quarantine/
inside the data directory, everything else stays readable, and exit is 0. The server must not be running.

Examples:
  sluicegate repair ./sluicegate-data            look
  sluicegate repair ./sluicegate-data --apply    move what is damaged out of the way")]
    Repair(RepairArgs),
    /// Print the version
    Version {
        /// Print it as JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// The configuration file
    pub(crate) config: Option<PathBuf>,
    /// The data directory, instead of the configured one
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// A running process hands over through standard input
    #[arg(long, hide = true)]
    pub(crate) take_over: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RepairArgs {
    /// The data directory
    #[arg(value_name = "DIR")]
    pub(crate) data: PathBuf,
    /// Move what is damaged to quarantine
    #[arg(long)]
    pub(crate) apply: bool,
    /// Print what was found as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// How to reach the broker.
#[derive(Debug, Args)]
pub(crate) struct Broker {
    /// Address of the AMQP listener
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:5672")]
    pub(crate) amqp: String,
    /// The vhost
    #[arg(long, default_value = "/")]
    pub(crate) vhost: String,
    #[command(flatten)]
    pub(crate) user: User,
}

/// As whom.
#[derive(Debug, Args)]
pub(crate) struct User {
    /// The user
    #[arg(long, default_value = "guest")]
    pub(crate) user: String,
    /// The password
    #[arg(long, default_value = "guest")]
    pub(crate) password: String,
}

#[derive(Debug, Args)]
pub(crate) struct PublishArgs {
    /// The queue, or with --exchange the routing key
    pub(crate) key: String,
    /// The body; `-` reads it from standard input
    pub(crate) body: String,
    /// The exchange to publish to; without it the message goes straight to the queue
    #[arg(long, default_value = "")]
    pub(crate) exchange: String,
    /// MIME type of the body
    #[arg(long)]
    pub(crate) content_type: Option<String>,
    /// A transient message: faster, lost in a crash
    #[arg(long)]
    pub(crate) transient: bool,
    /// Declare the queue, durable, if it does not exist
    #[arg(long)]
    pub(crate) declare: bool,
    /// Print the result as JSON
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) broker: Broker,
}

#[derive(Debug, Args)]
pub(crate) struct ConsumeArgs {
    /// The queue
    pub(crate) queue: String,
    /// Stop after this many messages
    #[arg(long)]
    pub(crate) count: Option<u64>,
    /// Look only: put every message back
    #[arg(long, requires = "count")]
    pub(crate) peek: bool,
    /// Print each message as a JSON object on a line
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) broker: Broker,
}

#[derive(Debug, Args)]
pub(crate) struct QueuesArgs {
    /// Address of the management listener
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:15672")]
    pub(crate) management: String,
    /// Print the API's answer as it is
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) user: User,
}
