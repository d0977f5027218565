//! `sluicegate publish`: one message, confirmed.

use super::{Failure, say};
use crate::amqp_client::{AmqpClient, Outcome};
use crate::cli::PublishArgs;
use model::{Properties, Secret};
use std::io::Read;

pub(crate) fn run(args: &PublishArgs) -> Result<(), Failure> {
    let mut body = Vec::new();
    if args.body == "-" {
        std::io::stdin().read_to_end(&mut body).map_err(|error| Failure::new(format!("standard input: {error}")))?;
    } else {
        body.extend_from_slice(args.body.as_bytes());
    }
    let broker = &args.broker;
    let password = Secret::new(broker.user.password.clone());
    let mut client = AmqpClient::connect(&broker.amqp, &broker.vhost, &broker.user.user, &password)?;
    if args.declare && args.exchange.is_empty() {
        client.declare(&args.key)?;
    }
    let properties = Properties {
        content_type: args.content_type.clone(),
        delivery_mode: Some(if args.transient { 1 } else { 2 }),
        ..Properties::default()
    };
    let outcome = client.publish(&args.exchange, &args.key, &properties, &body)?;
    client.close()?;
    match outcome {
        Outcome::Confirmed if args.json => {
            say(&serde_json::json!({ "confirmed": true, "exchange": args.exchange, "routing_key": args.key })
                .to_string());
            Ok(())
        }
        Outcome::Confirmed => {
            say(&format!("confirmed: {} bytes to {}", body.len(), place(args)));
            Ok(())
        }
        Outcome::Unroutable if args.exchange.is_empty() => {
            Err(Failure::new(format!("no queue `{}` (--declare makes it)", args.key)))
        }
        Outcome::Unroutable => Err(Failure::new(format!("{} leads to no queue", place(args)))),
        Outcome::Rejected => Err(Failure::new("the server could not keep the message; try again later")),
    }
}

fn place(args: &PublishArgs) -> String {
    if args.exchange.is_empty() {
        format!("queue `{}`", args.key)
    } else {
        format!("exchange `{}` with key `{}`", args.exchange, args.key)
    }
}
