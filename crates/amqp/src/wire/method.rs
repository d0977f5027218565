//! The methods a client sends (§1.2 to §1.8 and RabbitMQ's extensions), decoded in place.
//!
//! Names are borrowed; only argument tables are built. Bytes left over behind the last argument are an error.

use super::MethodId;
use super::reader::{Malformed, Reader};
use model::Table;

/// A method of class connection.
#[derive(Debug)]
pub(crate) enum ConnectionMethod<'a> {
    StartOk { properties: Table, mechanism: &'a str, response: &'a [u8] },
    TuneOk { channels_max: u16, frame_size_max: u32, heartbeat_seconds: u16 },
    Open { vhost: &'a str },
    Close { code: u16, text: &'a [u8] },
    CloseOk,
    UpdateSecret,
}

/// A method on a channel.
#[derive(Debug)]
pub(crate) enum ChannelMethod<'a> {
    ChannelOpen,
    ChannelFlow {
        active: bool,
    },
    ChannelFlowOk,
    ChannelClose,
    ChannelCloseOk,
    AccessRequest,
    ExchangeDeclare {
        exchange: &'a str,
        kind: &'a str,
        bits: u8,
        arguments: Table,
    },
    ExchangeDelete {
        exchange: &'a str,
        if_unused: bool,
        nowait: bool,
    },
    ExchangeBind(Binding<'a>),
    ExchangeUnbind(Binding<'a>),
    QueueDeclare {
        queue: &'a str,
        bits: u8,
        arguments: Table,
    },
    QueueBind(Binding<'a>),
    QueueUnbind(Binding<'a>),
    QueuePurge {
        queue: &'a str,
        nowait: bool,
    },
    QueueDelete {
        queue: &'a str,
        if_unused: bool,
        if_empty: bool,
        nowait: bool,
    },
    Qos {
        prefetch_size: u32,
        prefetch: u16,
        global: bool,
    },
    Consume {
        queue: &'a str,
        tag: &'a str,
        no_ack: bool,
        exclusive: bool,
        nowait: bool,
        arguments: Table,
    },
    Cancel {
        tag: &'a str,
        nowait: bool,
    },
    /// See [`publish`].
    Publish,
    Get {
        queue: &'a str,
        no_ack: bool,
    },
    Ack {
        tag: u64,
        multiple: bool,
    },
    Reject {
        tag: u64,
        requeue: bool,
    },
    Nack {
        tag: u64,
        multiple: bool,
        requeue: bool,
    },
    RecoverAsync {
        requeue: bool,
    },
    Recover {
        requeue: bool,
    },
    ConfirmSelect {
        nowait: bool,
    },
    TxSelect,
    TxCommit,
    TxRollback,
}

/// `basic.publish`
#[derive(Clone, Copy, Debug)]
pub(crate) struct Publish<'a> {
    pub(crate) exchange: &'a [u8],
    pub(crate) routing_key: &'a [u8],
    pub(crate) mandatory: bool,
    pub(crate) immediate: bool,
}

/// Arguments of the four methods that bind and unbind.
#[derive(Debug)]
pub(crate) struct Binding<'a> {
    pub(crate) destination: &'a str,
    pub(crate) source: &'a str,
    pub(crate) routing_key: &'a str,
    pub(crate) nowait: bool,
    pub(crate) arguments: Table,
}

/// Bits of `exchange.declare` and `queue.declare`, in the order of the standard.
pub(crate) const PASSIVE: u8 = 1;
pub(crate) const DURABLE: u8 = 1 << 1;
/// `exclusive` of a queue, `auto-delete` of an exchange.
pub(crate) const THIRD: u8 = 1 << 2;
/// `auto-delete` of a queue, `internal` of an exchange.
pub(crate) const FOURTH: u8 = 1 << 3;
pub(crate) const DECLARE_NOWAIT: u8 = 1 << 4;

fn bit(bits: u8, n: u8) -> bool {
    bits & (1 << n) != 0
}

/// The numbers at the start of a method frame, and its arguments.
pub(crate) fn split(payload: &[u8]) -> Result<(MethodId, Reader<'_>), Malformed> {
    let mut reader = Reader::new(payload);
    let id = MethodId(reader.u16()?, reader.u16()?);
    Ok((id, reader))
}

/// Decodes a method of class connection; `None` if a client sends no such method.
pub(crate) fn connection(id: MethodId, mut r: Reader<'_>) -> Result<Option<ConnectionMethod<'_>>, Malformed> {
    let method = match (id.0, id.1) {
        (10, 11) => {
            let properties = r.table()?;
            let mechanism = r.name()?;
            let response = r.long()?;
            r.short()?;
            ConnectionMethod::StartOk { properties, mechanism, response }
        }
        (10, 31) => {
            ConnectionMethod::TuneOk { channels_max: r.u16()?, frame_size_max: r.u32()?, heartbeat_seconds: r.u16()? }
        }
        (10, 40) => {
            let vhost = r.name()?;
            r.short()?;
            r.u8()?;
            ConnectionMethod::Open { vhost }
        }
        (10, 50) => {
            let code = r.u16()?;
            let text = r.short()?;
            r.take(4)?;
            ConnectionMethod::Close { code, text }
        }
        (10, 51) => ConnectionMethod::CloseOk,
        (10, 70) => {
            r.long()?;
            r.short()?;
            ConnectionMethod::UpdateSecret
        }
        _ => return Ok(None),
    };
    r.finish()?;
    Ok(Some(method))
}

/// Decodes a method on a channel; `None` if a client sends no such method.
pub(crate) fn channel(id: MethodId, mut r: Reader<'_>) -> Result<Option<ChannelMethod<'_>>, Malformed> {
    let method = match (id.0, id.1) {
        (20, 10) => {
            r.short()?;
            ChannelMethod::ChannelOpen
        }
        (20, 20) => ChannelMethod::ChannelFlow { active: bit(r.u8()?, 0) },
        (20, 21) => {
            r.u8()?;
            ChannelMethod::ChannelFlowOk
        }
        (20, 40) => {
            r.u16()?;
            r.short()?;
            r.take(4)?;
            ChannelMethod::ChannelClose
        }
        (20, 41) => ChannelMethod::ChannelCloseOk,
        (30, 10) => {
            r.short()?;
            r.u8()?;
            ChannelMethod::AccessRequest
        }
        (40, _) => match exchange(id.1, &mut r)? {
            Some(method) => method,
            None => return Ok(None),
        },
        (50, _) => match queue(id.1, &mut r)? {
            Some(method) => method,
            None => return Ok(None),
        },
        (60, _) => match basic(id.1, &mut r)? {
            Some(method) => method,
            None => return Ok(None),
        },
        (85, 10) => ChannelMethod::ConfirmSelect { nowait: bit(r.u8()?, 0) },
        (90, 10) => ChannelMethod::TxSelect,
        (90, 20) => ChannelMethod::TxCommit,
        (90, 30) => ChannelMethod::TxRollback,
        _ => return Ok(None),
    };
    r.finish()?;
    Ok(Some(method))
}

fn exchange<'a>(method: u16, r: &mut Reader<'a>) -> Result<Option<ChannelMethod<'a>>, Malformed> {
    if !matches!(method, 10 | 20 | 30 | 40) {
        return Ok(None);
    }
    r.u16()?;
    Ok(Some(match method {
        10 => ChannelMethod::ExchangeDeclare {
            exchange: r.name()?,
            kind: r.name()?,
            bits: r.u8()?,
            arguments: r.table()?,
        },
        20 => {
            let exchange = r.name()?;
            let bits = r.u8()?;
            ChannelMethod::ExchangeDelete { exchange, if_unused: bit(bits, 0), nowait: bit(bits, 1) }
        }
        30 => ChannelMethod::ExchangeBind(binding(r, true)?),
        _ => ChannelMethod::ExchangeUnbind(binding(r, true)?),
    }))
}

fn queue<'a>(method: u16, r: &mut Reader<'a>) -> Result<Option<ChannelMethod<'a>>, Malformed> {
    if !matches!(method, 10 | 20 | 30 | 40 | 50) {
        return Ok(None);
    }
    r.u16()?;
    Ok(Some(match method {
        10 => ChannelMethod::QueueDeclare { queue: r.name()?, bits: r.u8()?, arguments: r.table()? },
        20 => ChannelMethod::QueueBind(binding(r, true)?),
        30 => ChannelMethod::QueuePurge { queue: r.name()?, nowait: bit(r.u8()?, 0) },
        40 => {
            let queue = r.name()?;
            let bits = r.u8()?;
            ChannelMethod::QueueDelete { queue, if_unused: bit(bits, 0), if_empty: bit(bits, 1), nowait: bit(bits, 2) }
        }
        _ => ChannelMethod::QueueUnbind(binding(r, false)?),
    }))
}

/// `has_nowait` is false for `queue.unbind` only.
fn binding<'a>(r: &mut Reader<'a>, has_nowait: bool) -> Result<Binding<'a>, Malformed> {
    Ok(Binding {
        destination: r.name()?,
        source: r.name()?,
        routing_key: r.name()?,
        nowait: has_nowait && bit(r.u8()?, 0),
        arguments: r.table()?,
    })
}

/// The arguments of `basic.publish`, which comes far more often than all the others and so has a way of its own.
pub(crate) fn publish<'a>(r: &mut Reader<'a>) -> Result<Publish<'a>, Malformed> {
    r.u16()?;
    let exchange = r.short()?;
    let routing_key = r.short()?;
    let bits = r.u8()?;
    Ok(Publish { exchange, routing_key, mandatory: bit(bits, 0), immediate: bit(bits, 1) })
}

fn basic<'a>(method: u16, r: &mut Reader<'a>) -> Result<Option<ChannelMethod<'a>>, Malformed> {
    Ok(Some(match method {
        40 => {
            publish(r)?;
            ChannelMethod::Publish
        }
        80 => ChannelMethod::Ack { tag: r.u64()?, multiple: bit(r.u8()?, 0) },
        90 => ChannelMethod::Reject { tag: r.u64()?, requeue: bit(r.u8()?, 0) },
        120 => {
            let tag = r.u64()?;
            let bits = r.u8()?;
            ChannelMethod::Nack { tag, multiple: bit(bits, 0), requeue: bit(bits, 1) }
        }
        10 => ChannelMethod::Qos { prefetch_size: r.u32()?, prefetch: r.u16()?, global: bit(r.u8()?, 0) },
        20 => {
            r.u16()?;
            let queue = r.name()?;
            let tag = r.name()?;
            // Bit 0 is no-local, which RabbitMQ ignores too.
            let bits = r.u8()?;
            ChannelMethod::Consume {
                queue,
                tag,
                no_ack: bit(bits, 1),
                exclusive: bit(bits, 2),
                nowait: bit(bits, 3),
                arguments: r.table()?,
            }
        }
        30 => ChannelMethod::Cancel { tag: r.name()?, nowait: bit(r.u8()?, 0) },
        70 => {
            r.u16()?;
            ChannelMethod::Get { queue: r.name()?, no_ack: bit(r.u8()?, 0) }
        }
        100 => ChannelMethod::RecoverAsync { requeue: bit(r.u8()?, 0) },
        110 => ChannelMethod::Recover { requeue: bit(r.u8()?, 0) },
        _ => return Ok(None),
    }))
}
