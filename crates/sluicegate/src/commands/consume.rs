//! `sluicegate consume`: prints messages as they come and acknowledges them.

use super::{Failure, say};
use crate::amqp_client::{AmqpClient, Delivered};
use crate::cli::ConsumeArgs;
use model::{Properties, Secret, Table, Value as Field};
use serde_json::{Map, Value, json};

pub(crate) fn run(args: &ConsumeArgs) -> Result<(), Failure> {
    let broker = &args.broker;
    let password = Secret::new(broker.user.password.clone());
    let mut client = AmqpClient::connect(&broker.amqp, &broker.vhost, &broker.user.user, &password)?;
    let count = args.count.unwrap_or(u64::MAX);
    if count == 0 {
        return Ok(client.close()?);
    }
    // Take no more than will be printed, so that nothing is marked redelivered that nobody saw.
    let prefetch = u16::try_from(count.min(100)).unwrap_or(100);
    client.consume(&args.queue, prefetch)?;
    for _ in 0..count {
        let delivered = client.delivery()?;
        if args.json {
            say(&as_json(&delivered).to_string());
        } else {
            say(&as_text(&delivered));
        }
        if !args.peek {
            client.ack(delivered.tag)?;
        }
    }
    Ok(client.close()?)
}

fn as_text(delivered: &Delivered) -> String {
    let mark = if delivered.redelivered { " (redelivered)" } else { "" };
    format!("{}{mark}", String::from_utf8_lossy(&delivered.body))
}

fn as_json(delivered: &Delivered) -> Value {
    json!({
        "exchange": delivered.exchange,
        "routing_key": delivered.routing_key,
        "redelivered": delivered.redelivered,
        "properties": properties(&delivered.properties),
        "body": String::from_utf8_lossy(&delivered.body),
    })
}

fn properties(properties: &Properties) -> Value {
    let mut map = Map::new();
    let mut text = |name: &str, value: &Option<String>| {
        if let Some(value) = value {
            map.insert(name.to_owned(), Value::from(value.as_str()));
        }
    };
    text("content_type", &properties.content_type);
    text("content_encoding", &properties.content_encoding);
    text("correlation_id", &properties.correlation_id);
    text("reply_to", &properties.reply_to);
    text("expiration", &properties.expiration);
    text("message_id", &properties.message_id);
    text("type", &properties.kind);
    text("user_id", &properties.user_id);
    text("app_id", &properties.app_id);
    let numbers = [
        ("delivery_mode", properties.delivery_mode.map(u64::from)),
        ("priority", properties.priority.map(u64::from)),
        ("timestamp", properties.timestamp),
    ];
    for (name, number) in numbers {
        if let Some(number) = number {
            map.insert(name.to_owned(), Value::from(number));
        }
    }
    if let Some(headers) = &properties.headers {
        map.insert("headers".to_owned(), table(headers));
    }
    Value::Object(map)
}

fn table(fields: &Table) -> Value {
    Value::Object(fields.iter().map(|(name, value)| (name.to_owned(), field(value))).collect())
}

fn field(value: &Field) -> Value {
    match value {
        Field::Void => Value::Null,
        Field::Bool(b) => Value::from(*b),
        Field::F32(x) => Value::from(*x),
        Field::F64(x) => Value::from(*x),
        Field::Timestamp(seconds) => Value::from(*seconds),
        Field::Table(fields) => table(fields),
        Field::Array(values) => values.iter().map(field).collect(),
        Field::Text(_) | Field::Bytes(_) | Field::Decimal { .. } => Value::from(value.to_string()),
        integer => integer.as_integer().map_or(Value::Null, Value::from),
    }
}
