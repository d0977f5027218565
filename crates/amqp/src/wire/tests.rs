//! Round trips of tables, properties and frames, and lookers-over that agree with readers.

use super::reader::Malformed;
use super::{frame, properties, table};
use bytes::Bytes;
use model::limits::TABLE_DEPTH_MAX;
use model::{Properties, Table, Value};
use proptest::prelude::*;

fn scalar() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Void),
        any::<bool>().prop_map(Value::Bool),
        any::<i8>().prop_map(Value::I8),
        any::<u8>().prop_map(Value::U8),
        any::<i16>().prop_map(Value::I16),
        any::<u16>().prop_map(Value::U16),
        any::<i32>().prop_map(Value::I32),
        any::<u32>().prop_map(Value::U32),
        any::<i64>().prop_map(Value::I64),
        (-1e30f32..1e30).prop_map(Value::F32),
        (-1e300f64..1e300).prop_map(Value::F64),
        (any::<u8>(), any::<u32>()).prop_map(|(scale, value)| Value::Decimal { scale, value }),
        prop::collection::vec(any::<u8>(), 0..20).prop_map(|b| Value::Text(Bytes::from(b))),
        prop::collection::vec(any::<u8>(), 0..20).prop_map(|b| Value::Bytes(Bytes::from(b))),
        any::<u64>().prop_map(Value::Timestamp),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    scalar().prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::Array),
            prop::collection::vec(("\\PC{0,8}", inner), 0..6).prop_map(|f| Value::Table(Table(f))),
        ]
    })
}

fn table_of_values() -> impl Strategy<Value = Table> {
    prop::collection::vec(("\\PC{0,12}", value()), 0..8).prop_map(Table)
}

fn text() -> impl Strategy<Value = Option<String>> {
    prop::option::of("\\PC{0,30}")
}

prop_compose! {
    fn any_properties()(
        (content_type, content_encoding, correlation_id, reply_to, expiration) in (text(), text(), text(), text(), text()),
        (message_id, kind, user_id, app_id, cluster_id) in (text(), text(), text(), text(), text()),
        headers in prop::option::of(table_of_values()),
        delivery_mode in any::<Option<u8>>(),
        priority in any::<Option<u8>>(),
        timestamp in any::<Option<u64>>(),
    ) -> Properties {
        Properties {
            content_type, content_encoding, headers, delivery_mode, priority, correlation_id, reply_to, expiration,
            message_id, timestamp, kind, user_id, app_id, cluster_id,
        }
    }
}

proptest! {
    #[test]
    fn properties_come_back_as_they_went_in(given in any_properties()) {
        let mut header = Vec::new();
        properties::encode(&given, &mut header);
        prop_assert_eq!(properties::decode(&header), Ok(given.clone()));
        let scan = properties::scan(&header).unwrap();
        prop_assert_eq!(scan.persistent, given.is_persistent());
        prop_assert_eq!(scan.priority, given.priority.unwrap_or(0));
        prop_assert_eq!(scan.expiration, given.expiration.as_deref().map(str::as_bytes));
        prop_assert_eq!(scan.user_id, given.user_id.as_deref().map(str::as_bytes));
        prop_assert_eq!(scan.headers.is_some(), given.headers.is_some_and(|h| !h.is_empty()));
    }

    #[test]
    fn scanning_accepts_what_decoding_accepts(mut header in any_properties().prop_map(|p| {
        let mut header = Vec::new();
        properties::encode(&p, &mut header);
        header
    }), at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<prop::sample::Index>()) {
        let i = at.index(header.len());
        header[i] = byte;
        header.truncate(cut.index(header.len()) + 1);
        prop_assert_eq!(properties::scan(&header).map(drop), properties::decode(&header).map(drop));
    }

    #[test]
    fn a_field_is_cut_out_and_nothing_else(mut given in any_properties(), keys in value()) {
        let mut headers = given.headers.take().unwrap_or_default();
        headers.remove("BCC");
        let at = headers.0.len() / 2;
        let mut expected = given.clone();
        expected.headers = Some(headers.clone());
        headers.0.insert(at, ("BCC".into(), keys));
        given.headers = Some(headers);
        let mut header = Vec::new();
        properties::encode(&given, &mut header);
        let scan = properties::scan(&header).unwrap();
        let stripped = properties::without_field(&header, scan.headers.unwrap(), scan.bcc.unwrap());
        prop_assert_eq!(properties::decode(&stripped), Ok(expected));
    }

    #[test]
    fn a_frame_is_found_when_it_is_whole_and_not_before(
        kind in any::<u8>(), channel in any::<u16>(), payload in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let mut bytes = vec![kind];
        bytes.extend_from_slice(&channel.to_be_bytes());
        table::with_length(&mut bytes, |b| b.extend_from_slice(&payload));
        bytes.push(frame::END);
        for len in 0..bytes.len() {
            prop_assert!(matches!(frame::first(&bytes[..len], 4096), Ok(None)));
        }
        bytes.push(1);
        let found = frame::first(&bytes, 4096).unwrap().unwrap();
        prop_assert_eq!((found.kind, found.channel, found.payload), (kind, channel, &payload[..]));
        prop_assert_eq!(found.size() + 1, bytes.len());
    }
}

#[test]
fn nesting_is_bounded_for_reading_and_for_looking_over() {
    for (depth, fine) in [(TABLE_DEPTH_MAX - 1, true), (TABLE_DEPTH_MAX, false)] {
        let mut value = Value::Void;
        for n in 0..depth {
            value = if n % 2 == 0 { Value::Array(vec![value]) } else { Value::Table(Table(vec![("t".into(), value)])) };
        }
        let mut bytes = Vec::new();
        table::encode(&Table(vec![("outer".into(), value)]), &mut bytes);
        let content = &bytes[4..];
        let expected = if fine { Ok(()) } else { Err(Malformed::TooDeep) };
        assert_eq!(table::decode(content).map(drop), expected);
        assert_eq!(table::check(content, |_| {}), expected);
    }
}

#[test]
fn long_text_is_cut_at_a_character() {
    let given = Properties { message_id: Some("é".repeat(200)), ..Properties::default() };
    let mut header = Vec::new();
    properties::encode(&given, &mut header);
    let read = properties::decode(&header).unwrap();
    assert_eq!(read.message_id, Some("é".repeat(127)));
}
